"""Where pictures and sound come from: chosen by name, opened here and nowhere else.

A source is "camera" (the first that captures), a device such as "/dev/video2" or "csi://0", "demo"
or the path of a file; a microphone is "default", an index or a part of a device's name. A name that
is given must work or raises SourceError; "auto" takes what there is and warns when it falls back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..clock import Clock
from ..messages import AudioSource, Faultable, SourceError, VideoSource
from .audio_devices import list_microphones
from .camera import CameraOpener
from .opencv_camera import list_cameras
from .playback import Media, Playback, merge_events
from .reconnect import (
    FAIL_FAST,
    ReconnectingAudio,
    ReconnectingVideo,
    WaitPolicy,
    reconnecting_audio,
    reconnecting_video,
)

__all__ = [
    "CameraOpener",
    "Media",
    "Playback",
    "Sources",
    "is_camera",
    "list_cameras",
    "list_microphones",
    "merge_events",
    "open_audio",
    "open_media",
    "open_sources",
    "open_video",
]

_LOG = logging.getLogger(__name__)

_ALLOWED = 'a source is "auto", "camera", a device (/dev/video0, csi://0), "demo" or a file'


@dataclass(frozen=True, slots=True)
class Sources:
    """What the program reads from. A context manager; `close` may be called twice."""

    video: VideoSource | None
    audio: AudioSource | None
    name: str
    """What was chosen: a camera's device, "demo" or the file."""
    camera: ReconnectingVideo | None = None
    """`video`, where it is a device that is opened again after a failure."""
    microphone: ReconnectingAudio | None = None
    """`audio`, likewise."""

    @property
    def devices(self) -> tuple[Faultable, ...]:
        return tuple(device for device in (self.camera, self.microphone) if device is not None)

    @property
    def camera_is_reopening(self) -> bool:
        """Whether no frame comes for a known reason: the camera is being opened again."""
        return self.camera is not None and self.camera.is_reopening

    def close(self) -> None:
        for source in (self.video, self.audio):
            if source is not None:
                source.close()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_sources(
    source: str,
    *,
    clock: Clock,
    microphone: str = "auto",
    loop: bool = False,
    width: int = 1280,
    height: int = 720,
    camera_fps: float = 30,
    capture: str = "auto",
    for_gpu: bool = False,
    microphone_chunk_ms: float = 10,
    wait: bool = False,
    capture_allowed: Callable[[], bool] = lambda: True,
) -> Sources:
    """Everything a run reads from, in real time.

    A camera goes with `microphone` ("auto", "none", "default", an index or a name); both are opened
    again when they fail, and closed while `capture_allowed` says no. With `wait` who reads them
    opens them, and waits for what is not there at first: quietly for a microphone that is "auto".
    `capture` and `for_gpu` say how it is read, see `CameraOpener`. The demo and a file bring their
    own sound: there `loop` starts over at the end."""
    wait_policy = WaitPolicy(wait, capture_allowed=capture_allowed)
    name = source
    if source == "auto":
        name = next(iter(list_cameras()), "demo")
        if name == "demo":
            _LOG.warning("no camera (no /dev/video* that captures): showing the demo instead")
    if not is_camera(name):
        playback = Playback(open_media(name), clock, loop=loop)
        return Sources(playback.video, playback.audio, name)
    video = _open_camera(
        name,
        clock=clock,
        width=width,
        height=height,
        fps=camera_fps,
        capture=capture,
        for_gpu=for_gpu,
        wait_policy=wait_policy,
    )
    if microphone == "none":
        return Sources(video, None, name, camera=video)
    try:
        if _is_media(microphone):
            return Sources(video, open_audio(microphone, clock=clock), name, camera=video)
        audio = _open_microphone(microphone, clock, microphone_chunk_ms, wait_policy)
    except SourceError as error:
        if microphone != "auto":
            video.close()
            raise
        _LOG.warning("going on without a microphone: %s", error)
        return Sources(video, None, name, camera=video)
    return Sources(video, audio, name, camera=video, microphone=audio)


def open_video(
    name: str,
    *,
    clock: Clock,
    loop: bool = False,
    width: int = 1280,
    height: int = 720,
    fps: float | None = None,
    capture: str = "auto",
    for_gpu: bool = False,
    wait_policy: WaitPolicy = FAIL_FAST,
) -> VideoSource:
    """Pictures alone. `fps`: what a camera is asked for, or the rate a file is re-timed to."""
    if is_camera(name):
        return _open_camera(
            name,
            clock=clock,
            width=width,
            height=height,
            fps=fps,
            capture=capture,
            for_gpu=for_gpu,
            wait_policy=wait_policy,
        )
    playback = Playback(open_media(name), clock, loop=loop, fps=fps, audio=False)
    if playback.video is None:
        raise SourceError(f"{name} holds no picture")
    return playback.video


def _open_camera(
    name: str,
    *,
    clock: Clock,
    width: int,
    height: int,
    fps: float | None,
    capture: str,
    for_gpu: bool,
    wait_policy: WaitPolicy,
) -> ReconnectingVideo:
    @functools.cache  # each device is opened again in the way that worked
    def find_opener(device: str) -> CameraOpener:
        return CameraOpener(
            device,
            clock,
            capture=capture,
            width=width,
            height=height,
            fps=fps or 30,
            for_gpu=for_gpu,
        )

    def open_first() -> VideoSource:
        return find_opener(_first_camera())()

    if name == "camera":  # one that was unplugged may come back under another number
        return reconnecting_video("camera", open_first, clock, wait_policy)
    return reconnecting_video(f"camera {name}", find_opener(name), clock, wait_policy)


def _first_camera() -> str:
    found = list_cameras()
    if not found:
        raise SourceError(f'"camera": there is no /dev/video* that captures; {_ALLOWED}')
    return found[0]


def open_audio(
    name: str,
    *,
    clock: Clock,
    loop: bool = False,
    chunk_ms: float = 10,
    wait_policy: WaitPolicy = FAIL_FAST,
) -> AudioSource:
    """Sound alone: "auto" or "default" (the system's microphone), an index, a name, demo, file."""
    if _is_media(name):
        playback = Playback(open_media(name), clock, loop=loop, video=False)
        if playback.audio is None:
            raise SourceError(f"{name} holds no sound")
        return playback.audio
    return _open_microphone(name, clock, chunk_ms, wait_policy)


def _is_media(microphone: str) -> bool:
    return microphone == "demo" or "/" in microphone or Path(microphone).is_file()


def _open_microphone(
    name: str, clock: Clock, chunk_ms: float, wait_policy: WaitPolicy
) -> ReconnectingAudio:
    from .audio_devices import import_pyaudio
    from .microphone import Microphone

    import_pyaudio()  # a library that is missing does not come by itself
    device = None if name in {"auto", "default"} else name
    return reconnecting_audio(
        f"microphone {name}" if device else "microphone",
        lambda: Microphone(clock, device=device, chunk_ms=chunk_ms),
        clock,
        replace(wait_policy, optional=wait_policy.wait_for_first and name == "auto"),
    )


def open_media(name: str, *, sample_rate_hz: int = 16000) -> Media:
    """ "demo" or a file, for `merge_events` (as fast as possible) or a `Playback` (real time)."""
    if name == "demo":
        from .demo import Demo

        return Demo()
    if is_camera(name) or name == "auto":
        raise SourceError(f"{name!r} cannot be replayed; give a file or demo")
    if not Path(name).exists():
        raise SourceError(f"source {name}: no such file ({_ALLOWED})")
    from .media_file import MediaFile

    return MediaFile(name, sample_rate_hz)


def is_camera(name: str) -> bool:
    """Whether `name` is a device, which knows no end and no other speed than its own."""
    return name == "camera" or name.startswith(("/dev/", "csi://"))
