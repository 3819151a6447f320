"""Opens the sources that a run reads, by name.

In: the configuration's `source` section. Out: a `Sources` pair, or for media a `Media`.
A source is "camera" (the first that captures), a device ("/dev/video2", "csi://0"), "none" (a
microphone alone), "demo", a file, "-" (standard input) or the URL of a stream. A microphone is
"default", an index or a part of a device's name. What is named must work, else SourceError. "auto"
uses what exists and logs a warning when it falls back.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from ..clock import Clock, MonotonicClock
from ..config import Source
from ..messages import AudioSource, Faultable, SourceError, VideoSource
from .camera import CameraSettings, list_cameras
from .camera_opener import CameraOpener
from .playback import Media, Playback
from .reconnect import FAIL_FAST, ReconnectingAudio, ReconnectingVideo, WaitPolicy
from .source_name import find_kind, find_path, path_exists, show_source
from .turning import Turn, TurnedMedia, TurnedVideo

if TYPE_CHECKING:
    from .live_stream import LiveStream
    from .streamed_media import StreamedMedia

_LOG = logging.getLogger(__name__)

_ALLOWED = (
    'a source is "auto", "camera", a device (/dev/video0, csi://0), "none", "demo",'
    ' a file, "-" or a URL (rtsp, rtsps, http, https, udp)'
)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a run reads. A context manager; `close` may be called twice."""

    video: VideoSource | None
    audio: AudioSource | None
    name: str
    """The source in use, to be shown: a camera's device, "microphone", "demo" or the file."""
    camera: ReconnectingVideo | None = None
    """`video`, where it is a device that reconnects after a failure."""
    microphone: ReconnectingAudio | None = None
    """`audio`, likewise."""
    stream: LiveStream | StreamedMedia | None = None
    """The network stream or pipe that both are of, likewise."""
    playback: Playback | None = None
    """What plays both, where they are of a file, a pipe or the demo."""

    @property
    def devices(self) -> tuple[Faultable, ...]:
        devices = (self.camera, self.microphone, self.stream, self.playback)
        return tuple(device for device in devices if device is not None)

    @property
    def is_reopening(self) -> bool:
        """Whether nothing comes for a known reason: the camera, the network stream, or the
        microphone where it is alone, is being opened again, or a pipe has no data."""
        device = self.stream or (self.camera if self.video is not None else self.microphone)
        return device is not None and device.is_reopening

    def close(self) -> None:
        for source in (self.video, self.audio, self.playback):
            if source is not None:
                source.close()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_sources(
    source: Source,
    *,
    clock: Clock,
    for_gpu: bool = False,
    wait_policy: WaitPolicy = FAIL_FAST,
) -> Sources:
    """Open a camera and a microphone, or play a file or the demo in real time.

    Camera and microphone reconnect after a failure and obey `wait_policy`. A microphone "auto" may
    be missing. A file and the demo bring their own audio; with `source.loop` they start over at the
    end. `for_gpu`: see `CameraSettings`. Raises SourceError.
    """
    name = source.name
    if name == "auto":
        name = next(iter(list_cameras()), "demo")
        if name == "demo":
            _LOG.warning("no camera (no /dev/video* that captures): showing the demo instead")
    kind = find_kind(name)
    if kind == "none":
        audio = _open_microphone(source, clock, replace(wait_policy, optional=False))
        return Sources(None, audio, audio.name, microphone=audio)
    if kind == "stream":
        return _open_stream(source, clock, wait_policy)
    if kind != "camera":
        source = msgspec.structs.replace(source, name=name)
        return _play(*_open_media(source, clock), source, clock)
    settings = CameraSettings(
        source.width_px, source.height_px, source.camera_fps, source.capture, for_gpu
    )
    camera = _open_camera(name, settings, clock, wait_policy)
    turn = _find_turn(source)
    video = camera if turn.is_none else TurnedVideo(camera, turn)
    if source.microphone == "none":
        return Sources(video, None, name, camera=camera)
    try:
        optional = wait_policy.wait_for_first and source.microphone == "auto"
        audio = _open_microphone(source, clock, replace(wait_policy, optional=optional))
    except SourceError as error:
        if source.microphone != "auto":
            video.close()
            raise
        _LOG.warning("continuing without a microphone: %s", error)
        return Sources(video, None, name, camera=camera)
    return Sources(video, audio, name, camera=camera, microphone=audio)


def open_media(source: Source, clock: Clock | None = None) -> Media:
    """Open "demo", a file, or what can be read once and has an end, for `merge_events` (as fast as
    possible) or a `Playback` (real time).

    Raises SourceError.
    """
    media, _ = _open_media(source, clock or MonotonicClock())
    return _turn(media, source)


def _play(media: Media, read_once: StreamedMedia | None, source: Source, clock: Clock) -> Sources:
    name = show_source(source.name)
    if source.loop and read_once is not None:
        raise SourceError(f"source {name} can be read only once, and source.loop is true")
    interrupt = None if read_once is None else read_once.interrupt
    playback = Playback(
        _turn(media, source), clock, loop=source.loop, interrupt=interrupt, name=name
    )
    return Sources(playback.video, playback.audio, name, stream=read_once, playback=playback)


def _turn(media: Media, source: Source) -> Media:
    turn = _find_turn(source)
    return media if turn.is_none else TurnedMedia(media, turn)


def _find_turn(source: Source) -> Turn:
    return Turn(source.rotate, source.mirror)


def _open_media(source: Source, clock: Clock) -> tuple[Media, StreamedMedia | None]:
    """Return the media, and them again where they are read only once."""
    name = source.name
    kind = find_kind(name)
    if kind == "demo":
        from .demo import Demo

        return Demo(), None
    shown, tracks = show_source(name), (source.video_track, source.audio_track)
    if kind == "stream":
        from .stream_input import is_finite, open_url
        from .streamed_media import StreamedMedia

        container = open_url(name)
        if not is_finite(container):
            container.close()
            raise SourceError(f"source {shown} is live, it has only its own pace")
        media = StreamedMedia(shown, lambda: container, tracks)
        return media, media
    if kind not in ("file", "pipe"):
        raise SourceError(f"{shown!r} cannot be replayed; give a file or demo")
    path = find_path(name)
    if kind == "pipe":
        from .streamed_media import open_piped_media

        media = open_piped_media(path, shown, clock, tracks)
        return media, media
    if not (name and path_exists(path)):
        raise SourceError(f"source {shown}: no such file ({_ALLOWED})")
    from .media_file import MediaFile

    file = MediaFile(path, video_track=source.video_track, audio_track=source.audio_track)
    return file, None


def _open_stream(source: Source, clock: Clock, wait_policy: WaitPolicy) -> Sources:
    """Open a network stream. One that has an end is played like a file, once."""
    from .live_stream import LiveStream
    from .stream_input import is_finite, open_url
    from .streamed_media import StreamedMedia

    name, container = show_source(source.name), None
    try:
        if wait_policy.capture_allowed():
            container = open_url(source.name)
    except SourceError:
        if not wait_policy.wait_for_first:
            raise
    tracks = source.video_track, source.audio_track
    if container is not None and is_finite(container):
        media = StreamedMedia(name, lambda: container, tracks)
        return _play(media, media, source, clock)
    stream = LiveStream(source.name, clock, wait_policy, container, tracks)
    turn = _find_turn(source)
    video = stream.video if turn.is_none else TurnedVideo(stream.video, turn)
    return Sources(video, stream.audio, name, stream=stream)


def _open_camera(
    name: str, settings: CameraSettings, clock: Clock, wait_policy: WaitPolicy
) -> ReconnectingVideo:
    @functools.cache  # each device keeps the backend that worked
    def find_opener(device: str) -> CameraOpener:
        return CameraOpener(device, clock, settings)

    def open_first() -> VideoSource:
        return find_opener(_first_camera())()

    if name == "camera":  # a camera that was unplugged may return under another number
        return ReconnectingVideo("camera", open_first, clock, wait_policy)
    return ReconnectingVideo(f"camera {name}", find_opener(name), clock, wait_policy)


def _first_camera() -> str:
    cameras = list_cameras()
    if not cameras:
        raise SourceError(f'"camera": there is no /dev/video* that captures; {_ALLOWED}')
    return cameras[0]


def _open_microphone(source: Source, clock: Clock, wait_policy: WaitPolicy) -> ReconnectingAudio:
    from .audio_devices import import_pyaudio
    from .microphone import Microphone

    import_pyaudio()  # waiting does not install a missing library
    name = source.microphone
    device = None if name in {"auto", "default"} else name
    return ReconnectingAudio(
        f"microphone {name}" if device else "microphone",
        lambda: Microphone(clock, device=device, chunk_ms=source.microphone_chunk_ms),
        clock,
        wait_policy,
    )
