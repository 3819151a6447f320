"""Choosing sources by name."""

from __future__ import annotations

import logging
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.capture import open_media, open_sources, opening
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.reconnect import WaitPolicy
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Source
from emotion_edge.runtime.health import list_faults
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

from .media_samples import write_tracks
from .reading import read_many, read_next

MICROPHONE = "emotion_edge.runtime.capture.microphone.Microphone"
WAIT = WaitPolicy(wait_for_first=True)


class FakeDevice:
    """A camera or microphone that returns the same item for ever."""

    sample_rate_hz = 16000

    def __init__(self, item: VideoFrame | AudioChunk) -> None:
        self.item = item
        self.closed = False

    def read(self) -> VideoFrame | AudioChunk:
        return self.item

    def close(self) -> None:
        self.closed = True


def fake_microphone() -> FakeDevice:
    return FakeDevice(AudioChunk(0, 0, np.zeros(1, np.float32)))


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """One camera at /dev/video5."""
    device = FakeDevice(VideoFrame(0, 0, np.zeros((2, 2, 3), np.uint8)))
    monkeypatch.setattr(opening, "list_cameras", lambda: ["/dev/video5"])
    monkeypatch.setattr(opening, "CameraOpener", lambda *_: lambda: device)
    return device


@pytest.fixture
def pyaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))


@pytest.fixture
def no_microphone(monkeypatch: pytest.MonkeyPatch, pyaudio: None) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SourceError("there is no microphone")

    monkeypatch.setattr(MICROPHONE, refuse)


def test_auto_without_a_camera_falls_back_to_the_demo(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fallback is a warning; the demo brings its own audio."""
    monkeypatch.setattr(opening, "list_cameras", list)
    with open_sources(Source(), clock=FakeClock()) as sources:
        assert sources.name == "demo"
        assert sources.audio is not None
        assert read_next(sources.video).image.shape == (360, 640, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.usefixtures("no_microphone")
def test_auto_uses_the_camera_without_a_microphone(
    camera: FakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    """The first camera is used, the missing microphone is a warning."""
    sources = open_sources(Source(), clock=FakeClock())
    assert sources.name == "/dev/video5"
    assert sources.audio is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    sources.close()
    assert camera.closed


@pytest.mark.usefixtures("no_microphone")
def test_named_microphone_must_work(camera: FakeDevice) -> None:
    """A named microphone has no fallback; the camera is closed again."""
    with pytest.raises(SourceError, match="microphone"):
        open_sources(Source("camera", "USB"), clock=FakeClock())
    assert camera.closed


@pytest.mark.usefixtures("camera")
def test_microphone_none_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MICROPHONE, lambda *a, **k: pytest.fail("was opened"))
    assert open_sources(Source("camera", "none"), clock=FakeClock()).audio is None
    assert not caplog.records


@pytest.mark.parametrize("name", ["camera", "/dev/video98", "camra"])
def test_named_source_must_exist(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither "camera", a device nor a typing error falls back to the demo."""
    monkeypatch.setattr(opening, "list_cameras", list)
    with pytest.raises(SourceError, match=name):
        open_sources(Source(name), clock=FakeClock())


def test_file_provides_its_own_audio(make_clip: Callable[..., Path]) -> None:
    """Both sources of a file share one start."""
    with open_sources(Source(str(make_clip())), clock=FakeClock(77)) as sources:
        assert read_next(sources.video).t_ns == read_next(sources.audio).t_ns == 77


def test_file_without_video(make_clip: Callable[..., Path]) -> None:
    voice = make_clip("voice.flac", video=None, audio="flac")
    with open_sources(Source(str(voice)), clock=FakeClock()) as sources:
        assert sources.video is None
        assert sources.audio is not None


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.mkv",
        b"new\nline.mkv",
        b"two: parts #1.mkv",
        b" spaces  .mkv",
        b"-x.mkv",
        b"{a: [b].mkv",
        b"'quoted'",
        b"it's.mkv",
        b"50%d.mkv",
        b"concat:a|b.mkv",
        b"~.mkv",
        b"ftp:x.mkv",
    ],
)
def test_any_file_name(
    make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    """A relative name is played, whatever its bytes are; a missing one is named in one line."""
    clip = make_clip("clip.mkv", audio=None, seconds=0.2)
    monkeypatch.chdir(clip.parent)
    with pytest.raises(SourceError) as failure:
        open_media(Source(os.fsdecode(name)))
    assert str(failure.value).isprintable()
    clip.rename(os.fsdecode(name))
    with open_sources(Source(os.fsdecode(name)), clock=FakeClock()) as sources:
        assert read_next(sources.video).image.shape == (180, 320, 3)
        assert sources.name.isprintable()


@pytest.mark.parametrize("name", ["", "nul\0", "x" * 5000])
def test_impossible_file_name(name: str) -> None:
    with pytest.raises(SourceError):
        open_media(Source(name))


@pytest.mark.usefixtures("pyaudio")
def test_microphone_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a camera the microphone must exist; a run waits for it where it waits for devices."""
    monkeypatch.setattr(MICROPHONE, lambda *a, **k: fake_microphone())
    with open_sources(Source("none"), clock=FakeClock()) as sources:
        assert sources.video is None
        assert sources.name == "microphone"
        assert read_next(sources.audio).samples.size == 1
        assert sources.devices == (sources.microphone,)


@pytest.mark.usefixtures("no_microphone")
def test_microphone_alone_that_is_missing() -> None:
    """It ends the run, or is a fault and a known reason for no result."""
    clock = FakeClock()
    with pytest.raises(SourceError, match="microphone"):
        open_sources(Source("none"), clock=clock)
    with open_sources(Source("none"), clock=clock, wait_policy=WAIT) as sources:
        assert sources.is_reopening
        clock.advance(60_000_000_000)
        assert not sources.is_reopening


@pytest.mark.parametrize("name", ["camera", "auto", "/dev/video0", "csi://0", "none"])
def test_devices_cannot_be_replayed(name: str) -> None:
    """Only media can be read faster than real time."""
    with pytest.raises(SourceError, match=name):
        open_media(Source(name))
    assert open_media(Source("demo")).has_audio


def test_camera_settings_reach_the_opener(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, CameraSettings]] = []

    def make_opener(device: str, _: object, settings: CameraSettings) -> Callable[[], FakeDevice]:
        opened.append((device, settings))
        return fake_microphone

    monkeypatch.setattr(opening, "CameraOpener", make_opener)
    source = Source("csi://0", "none", width_px=640, height_px=480, camera_fps=25, capture="jetson")
    open_sources(source, clock=FakeClock(), for_gpu=True).close()
    assert opened == [("csi://0", CameraSettings(640, 480, 25, "jetson", for_gpu=True))]


@pytest.mark.usefixtures("camera", "pyaudio")
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (Source("camera", "USB"), {"device": "USB", "chunk_ms": 10}),
        (Source("camera", "default", 40.0), {"device": None, "chunk_ms": 40.0}),
    ],
)
def test_microphone_settings_reach_the_microphone(
    monkeypatch: pytest.MonkeyPatch, source: Source, options: dict[str, object]
) -> None:
    opened: list[dict[str, object]] = []

    def open_microphone(_: object, **options: object) -> FakeDevice:
        opened.append(options)
        return fake_microphone()

    monkeypatch.setattr(MICROPHONE, open_microphone)
    open_sources(source, clock=FakeClock()).close()
    assert opened == [options]


class PluggedCameras:
    """The cameras that are plugged in. Each delivers `count` frames of its number, then fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, count: int = 2) -> None:
        self.clock, self.count = clock, count
        self.plugged: list[list[str]] = []
        """The answers of `list_cameras`, in order; the last one repeats."""
        self.openers: list[str] = []
        self.opened: list[str] = []
        monkeypatch.setattr(opening, "list_cameras", self.list_plugged)
        monkeypatch.setattr(opening, "CameraOpener", self.make_opener)

    def list_plugged(self) -> list[str]:
        return self.plugged.pop(0) if len(self.plugged) > 1 else self.plugged[0]

    def make_opener(self, device: str, *_: object) -> Callable[[], NumberedCamera]:
        self.openers.append(device)

        def open_device() -> NumberedCamera:
            self.opened.append(device)
            return NumberedCamera(device, self.clock, self.count)

        return open_device


class NumberedCamera:
    """A camera whose frames hold its number."""

    def __init__(self, device: str, clock: FakeClock, count: int) -> None:
        self.clock, self.left = clock, count
        self.image = np.full((2, 2, 3), int(device[-1]), np.uint8)
        self.path = CapturePath(0, device, "none")

    def read(self) -> VideoFrame:
        if self.left == 0:
            raise SourceError("unplugged")
        self.left -= 1
        self.clock.advance(33_000_000)
        return VideoFrame(self.clock.now_ns(), 0, self.image)

    def close(self) -> None: ...


def test_camera_that_returns_under_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "camera" uses the first camera at each opening. Each device keeps its opener, which knows
    the backend that worked."""
    clock = FakeClock()
    cameras = PluggedCameras(monkeypatch, clock)
    cameras.plugged = [["/dev/video0"], [], ["/dev/video1", "/dev/video2"], ["/dev/video0"]]
    video = open_sources(Source("camera", "none"), clock=clock).video
    assert [int(frame.image[0, 0, 0]) for frame in read_many(video, 6)] == [0, 0, 1, 1, 0, 0]
    assert cameras.opened == ["/dev/video0", "/dev/video1", "/dev/video0"]
    assert cameras.openers == ["/dev/video0", "/dev/video1"]


def test_named_camera_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    cameras = PluggedCameras(monkeypatch, clock, count=1)
    cameras.plugged = [["/dev/video1"]]
    video = open_sources(Source("/dev/video0", "none"), clock=clock).video
    read_many(video, 2)
    assert cameras.opened == ["/dev/video0"] * 2


@pytest.mark.usefixtures("no_microphone")
def test_missing_devices_are_awaited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With `wait_for_first` neither ends the start, and the camera is read once it exists. It is a
    fault only after it was tried."""
    clock = FakeClock()
    cameras = PluggedCameras(monkeypatch, clock)
    cameras.plugged = [[], [], ["/dev/video3"]]
    with (
        caplog.at_level(logging.INFO),
        open_sources(Source("camera", "USB"), clock=clock, wait_policy=WAIT) as sources,
    ):
        assert list_faults(sources.devices) == ()
        assert read_next(sources.video).image[0, 0, 0] == 3
        assert list_faults(sources.devices) == ()
    lost, back = caplog.records
    assert "/dev/video*" in lost.getMessage()
    assert (lost.levelno, back.levelno) == (logging.WARNING, logging.WARNING)


@pytest.mark.usefixtures("camera", "no_microphone")
@pytest.mark.parametrize(("name", "is_fault"), [("auto", False), ("USB", True), ("default", True)])
def test_named_microphone_is_reported_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, is_fault: bool
) -> None:
    """One that is "auto" and never existed is no fault."""
    source = Source("camera", name)
    with open_sources(source, clock=FakeClock(), wait_policy=WAIT) as sources:
        assert sources.audio is not None
        tries = stop_after(monkeypatch, sources.audio, 3)
        assert sources.audio.read() is None
        assert len(tries) == 3
        assert bool(list_faults(sources.devices)) == is_fault


def stop_after(monkeypatch: pytest.MonkeyPatch, source: object, count: int) -> list[int]:
    """Let the wait number `count` for the device end the read. Returns the waits so far."""
    tries: list[int] = []

    def wait() -> bool:
        tries.append(len(tries))
        return len(tries) == count

    monkeypatch.setattr(source, "_wait", wait)
    return tries


@pytest.mark.usefixtures("pyaudio")
def test_devices_are_not_opened_while_capture_is_not_allowed(
    camera: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither camera nor microphone, from the first moment on."""
    microphone = fake_microphone()
    opened: list[str] = []
    clock = FakeClock()

    def open_device(name: str, device: FakeDevice) -> FakeDevice:
        assert clock.now_ns() > 0
        opened.append(name)
        return device

    monkeypatch.setattr(opening, "CameraOpener", lambda *_: lambda: open_device("camera", camera))
    monkeypatch.setattr(MICROPHONE, lambda *a, **k: open_device("microphone", microphone))
    wait_policy = WaitPolicy(True, capture_allowed=lambda: clock.now_ns() > 10**9)
    with open_sources(Source("camera"), clock=clock, wait_policy=wait_policy) as sources:
        assert read_next(sources.video) is camera.item
        assert read_next(sources.audio) is microphone.item
    assert opened == ["camera", "microphone"]


@pytest.mark.usefixtures("camera")
def test_missing_library_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAudio does not install itself: the error comes at once, also with `wait_for_first`."""
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(SourceError, match="PyAudio"):
        open_sources(Source("camera", "default"), clock=FakeClock(), wait_policy=WAIT)
    with open_sources(Source("camera"), clock=FakeClock(), wait_policy=WAIT) as sources:
        assert sources.audio is None


def test_tracks_of_a_file_are_configured(tmp_path: Path) -> None:
    """The configuration's track reaches the file."""
    path = write_tracks(tmp_path / "a.mkv", [0.0, 0.5], [(64, 48), (96, 64)])
    media = open_media(Source(name=str(path), video_track=1, audio_track=1))
    assert next(media.frames()).image.shape == (64, 96, 3)
    assert np.abs(next(media.chunks()).samples).max() > 0.3
    with pytest.raises(SourceError, match=r"source\.audio_track is 2"):
        open_media(Source(name=str(path), audio_track=2))
