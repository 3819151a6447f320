"""Opens the sources that a run reads, by name.

In: the configuration's `source` section. Out: a `Sources` pair, or for media a `Media`.
A source is "camera" (the first that captures), a device ("/dev/video2", "csi://0"), "none" (a
microphone alone), "demo" or a file. A microphone is "default", an index or a part of a device's
name. What is named must work, else SourceError. "auto" uses what exists and logs a warning when it
falls back.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace

import msgspec

from ..clock import Clock
from ..config import Source
from ..messages import AudioSource, Faultable, SourceError, VideoSource
from .camera import CameraSettings, list_cameras
from .camera_opener import CameraOpener
from .playback import Media, Playback
from .reconnect import FAIL_FAST, ReconnectingAudio, ReconnectingVideo, WaitPolicy
from .source_name import find_kind, find_path, path_exists, show_source
from .turning import Turn, TurnedMedia, TurnedVideo

_LOG = logging.getLogger(__name__)

_ALLOWED = 'a source is "auto", "camera", a device (/dev/video0, csi://0), "none", "demo" or a file'


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

    @property
    def devices(self) -> tuple[Faultable, ...]:
        return tuple(device for device in (self.camera, self.microphone) if device is not None)

    @property
    def is_reopening(self) -> bool:
        """Whether nothing comes for a known reason: the camera, or the microphone where there is
        no camera, is being opened again."""
        device = self.camera if self.video is not None else self.microphone
        return device is not None and device.is_reopening

    def close(self) -> None:
        for source in (self.video, self.audio):
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
    if kind != "camera":
        media = open_media(msgspec.structs.replace(source, name=name))
        playback = Playback(media, clock, loop=source.loop)
        return Sources(playback.video, playback.audio, show_source(name))
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


def open_media(source: Source) -> Media:
    """Open "demo" or a file, for `merge_events` (as fast as possible) or a `Playback` (real time).

    Raises SourceError.
    """
    media = _open_media(source)
    turn = _find_turn(source)
    return media if turn.is_none else TurnedMedia(media, turn)


def _find_turn(source: Source) -> Turn:
    return Turn(source.rotate, source.mirror)


def _open_media(source: Source) -> Media:
    name = source.name
    kind = find_kind(name)
    if kind == "demo":
        from .demo import Demo

        return Demo()
    if kind not in ("file", "pipe"):
        raise SourceError(f"{show_source(name)!r} cannot be replayed; give a file or demo")
    path = find_path(name)
    if not (name and path_exists(path)):
        raise SourceError(f"source {show_source(name)}: no such file ({_ALLOWED})")
    from .media_file import MediaFile

    return MediaFile(path, video_track=source.video_track, audio_track=source.audio_track)


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
