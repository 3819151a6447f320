"""Choosing sources by name."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime import capture
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.health import list_faults
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

MakeClip = Callable[..., Path]


class Still:
    """A camera or microphone that gives one thing for ever."""

    sample_rate_hz = 16000

    def __init__(self, item: VideoFrame | AudioChunk) -> None:
        self.item = item
        self.closed = False

    def read(self) -> VideoFrame | AudioChunk:
        return self.item

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Still:
    """One camera at /dev/video5."""
    still = Still(VideoFrame(0, 0, np.zeros((2, 2, 3), np.uint8)))
    monkeypatch.setattr(capture, "list_cameras", lambda: ["/dev/video5"])
    monkeypatch.setattr(capture, "CameraOpener", lambda *a, **k: lambda: still)
    return still


@pytest.fixture
def no_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SourceError("there is no microphone")

    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    monkeypatch.setattr("emotion_edge.runtime.capture.microphone.Microphone", refuse)


def test_auto_without_a_camera_falls_back_to_the_demo(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fall-back is logged with its reason; the demo brings its own sound."""
    monkeypatch.setattr(capture, "list_cameras", list)
    with capture.open_sources("auto", clock=FakeClock()) as opened:
        assert opened.name == "demo"
        assert opened.audio is not None
        assert opened.video is not None
        frame = opened.video.read()
        assert frame is not None
        assert frame.image.shape == (360, 640, 3)
    assert ["no camera" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.usefixtures("no_microphone")
def test_auto_uses_the_camera_without_a_microphone(
    camera: Still, caplog: pytest.LogCaptureFixture
) -> None:
    """The camera is found by itself, the missing microphone is a warning."""
    opened = capture.open_sources("auto", clock=FakeClock())
    assert opened.name == "/dev/video5"
    assert opened.audio is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    opened.close()
    assert camera.closed


@pytest.mark.usefixtures("no_microphone")
def test_explicit_microphone_must_work(camera: Still) -> None:
    """A microphone that was asked for is no fall-back matter; the camera is closed again."""
    with pytest.raises(SourceError, match="no microphone"):
        capture.open_sources("camera", microphone="USB", clock=FakeClock())
    assert camera.closed


@pytest.mark.usefixtures("camera")
def test_microphone_none_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "none" leaves the microphone alone, without a warning."""
    monkeypatch.setattr(capture, "open_audio", lambda *a, **k: pytest.fail("was opened"))
    assert capture.open_sources("camera", microphone="none", clock=FakeClock()).audio is None


def test_camera_by_name_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "camera" and a device never fall back to the demo."""
    monkeypatch.setattr(capture, "list_cameras", list)
    for name in ("camera", "/dev/video98"):
        with pytest.raises(SourceError, match=name):
            capture.open_sources(name, clock=FakeClock())


def test_unknown_name_lists_what_is_allowed() -> None:
    """A typing error in the source's name is answered with what can be given."""
    for open_one in (capture.open_sources, capture.open_video):
        with pytest.raises(SourceError, match=r'source camra: no such file .*"demo" or a file'):
            open_one("camra", clock=FakeClock())


def test_file_provides_its_own_audio(make_clip: MakeClip) -> None:
    """Both sources of a file share one start."""
    path = str(make_clip())
    with capture.open_sources(path, clock=FakeClock(77)) as opened:
        assert opened.video is not None
        assert opened.audio is not None
        frame, chunk = opened.video.read(), opened.audio.read()
        assert frame is not None
        assert chunk is not None
        assert frame.t_ns == chunk.t_ns == 77


def test_half_a_file(make_clip: MakeClip) -> None:
    """Asking for the half that is not there is an error that names the file."""
    silent = str(make_clip("silent.mp4", audio=None))
    voice = str(make_clip("voice.flac", video=None, audio="flac"))
    with pytest.raises(SourceError, match=r"silent.mp4 holds no sound"):
        capture.open_audio(silent, clock=FakeClock())
    with pytest.raises(SourceError, match=r"voice.flac holds no picture"):
        capture.open_video(voice, clock=FakeClock())
    with capture.open_sources(voice, clock=FakeClock()) as opened:
        assert opened.video is None
        assert opened.audio is not None


def test_video_or_audio_alone(make_clip: MakeClip) -> None:
    """open_video and open_audio play one half without decoding the other."""
    path = str(make_clip())
    video = capture.open_video(path, clock=FakeClock(), fps=50)
    audio = capture.open_audio(path, clock=FakeClock())
    assert [frame.t_ns for frame in (video.read(), video.read()) if frame] == [0, 20_000_000]
    assert audio.read() is not None
    video.close()
    audio.close()


def test_devices_cannot_be_replayed() -> None:
    """Only media can be read faster than time."""
    for name in ("camera", "auto", "/dev/video0"):
        with pytest.raises(SourceError, match="cannot be replayed"):
            capture.open_media(name)
    assert capture.open_media("demo").has_audio


def test_camera_options_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to read it, the size, the rate and who reads the pictures reach the opener."""
    seen: list[tuple[str, dict[str, object]]] = []

    def opener(device: str, clock: object, **options: object) -> Callable[[], Still]:
        seen.append((device, options))
        return lambda: Still(VideoFrame(0, 0, np.zeros((2, 2, 3), np.uint8)))

    monkeypatch.setattr(capture, "CameraOpener", opener)
    wish = {"capture": "jetson", "width": 640, "height": 480, "for_gpu": True}
    capture.open_sources(
        "csi://0",
        clock=FakeClock(),
        microphone="none",
        camera_fps=25,
        **wish,  # type: ignore[arg-type]
    ).close()
    assert seen == [("csi://0", {**wish, "fps": 25})]
    with pytest.raises(SourceError, match="cannot be replayed"):
        capture.open_media("csi://0")


class Cameras:
    """What is plugged in; each gives `count` pictures of its own number, then fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, count: int = 2) -> None:
        self.clock, self.count = clock, count
        self.plugged: list[list[str]] = []
        """At each look, one after the other; the last stays."""
        self.openers: list[str] = []
        self.opened: list[str] = []
        monkeypatch.setattr(capture, "list_cameras", self.look)
        monkeypatch.setattr(capture, "CameraOpener", self.make_opener)

    def look(self) -> list[str]:
        return self.plugged.pop(0) if len(self.plugged) > 1 else self.plugged[0]

    def make_opener(self, device: str, *_: object, **__: object) -> Callable[[], Numbered]:
        self.openers.append(device)

        def open_device() -> Numbered:
            self.opened.append(device)
            return Numbered(device, self.clock, self.count)

        return open_device


class Numbered:
    """A camera whose pictures hold its number."""

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


def test_camera_that_comes_back_under_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "camera" looks up the first that captures at each opening; each device keeps the opener
    that knows which way of reading it worked."""
    clock = FakeClock()
    cameras = Cameras(monkeypatch, clock)
    cameras.plugged = [["/dev/video0"], [], ["/dev/video1", "/dev/video2"], ["/dev/video0"]]
    video = capture.open_video("camera", clock=clock)
    read = [video.read() for _ in range(6)]
    assert [int(frame.image[0, 0, 0]) for frame in read if frame] == [0, 0, 1, 1, 0, 0]
    assert cameras.opened == ["/dev/video0", "/dev/video1", "/dev/video0"]
    assert cameras.openers == ["/dev/video0", "/dev/video1"]


def test_camera_by_device_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a device gets that one, whatever else is plugged in."""
    clock = FakeClock()
    cameras = Cameras(monkeypatch, clock, count=1)
    cameras.plugged = [["/dev/video1"]]
    video = capture.open_video("/dev/video0", clock=clock)
    assert [video.read() is not None for _ in range(2)] == [True, True]
    assert cameras.opened == ["/dev/video0"] * 2


@pytest.mark.usefixtures("no_microphone")
def test_missing_devices_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With `wait`: neither ends the start, each is named as what is wrong once it was looked for,
    and the camera is read as soon as it is there."""
    clock = FakeClock()
    cameras = Cameras(monkeypatch, clock)
    cameras.plugged = [[], [], ["/dev/video3"]]
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    with (
        caplog.at_level(logging.INFO),
        capture.open_sources("camera", clock=clock, microphone="USB", wait=True) as opened,
    ):
        assert list_faults(opened.devices) == ()
        assert opened.video is not None
        frame = opened.video.read()
        assert frame is not None
        assert frame.image[0, 0, 0] == 3
        assert list_faults(opened.devices) == ()
    first, *others = (record.getMessage() for record in caplog.records)
    assert first.startswith('camera lost: "camera": there is no /dev/video* that captures')
    assert others == ["camera is back"]


@pytest.mark.usefixtures("camera", "no_microphone")
@pytest.mark.parametrize(("name", "missed"), [("auto", False), ("USB", True), ("default", True)])
def test_named_microphone_is_reported_missing(
    monkeypatch: pytest.MonkeyPatch, name: str, missed: bool
) -> None:
    """With `wait` and "auto", one that never was there is nothing that people are told of."""
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    with capture.open_sources("camera", clock=FakeClock(), microphone=name, wait=True) as opened:
        assert opened.audio is not None
        tries = stop_after(monkeypatch, opened.audio, 3)
        assert opened.audio.read() is None
        assert len(tries) == 3
        assert bool(list_faults(opened.devices)) == missed


def stop_after(monkeypatch: pytest.MonkeyPatch, source: object, count: int) -> list[int]:
    """Each wait for the device, of which the last one is told to stop."""
    tries: list[int] = []

    def wait() -> bool:
        tries.append(len(tries))
        return len(tries) == count

    monkeypatch.setattr(source, "_wait", wait)
    return tries


def test_devices_are_not_opened_while_they_may_not_be_read(
    camera: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither camera nor microphone, from the first moment on."""
    sound = Still(AudioChunk(0, 0, np.zeros(1, np.float32)))
    opened: list[str] = []
    clock = FakeClock()

    def open_one(name: str, device: Still) -> Still:
        assert clock.now_ns() > 0
        opened.append(name)
        return device

    monkeypatch.setattr(capture, "CameraOpener", lambda *a, **k: lambda: open_one("camera", camera))
    monkeypatch.setattr(
        "emotion_edge.runtime.capture.microphone.Microphone",
        lambda *a, **k: open_one("microphone", sound),
    )
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    with capture.open_sources(
        "camera", clock=clock, wait=True, capture_allowed=lambda: clock.now_ns() > 10**9
    ) as both:
        assert both.video is not None
        assert both.audio is not None
        assert both.video.read() is camera.item
        assert both.audio.read() is sound.item
    assert opened == ["camera", "microphone"]


@pytest.mark.usefixtures("camera")
def test_missing_library_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAudio does not come by itself: said at once, as without `wait`."""
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    with pytest.raises(SourceError, match="PyAudio"):
        capture.open_sources("camera", clock=FakeClock(), microphone="default", wait=True)
    with capture.open_sources("camera", clock=FakeClock(), wait=True) as opened:
        assert opened.audio is None


@pytest.mark.usefixtures("camera")
def test_microphone_options_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one, and how much sound it hands over at once."""
    seen: list[dict[str, object]] = []

    def open_microphone(_: object, **options: object) -> Still:
        seen.append(options)
        return Still(AudioChunk(0, 0, np.zeros(1, np.float32)))

    monkeypatch.setattr("emotion_edge.runtime.capture.microphone.Microphone", open_microphone)
    monkeypatch.setitem(sys.modules, "pyaudio", types.ModuleType("pyaudio"))
    for options in ({"microphone": "USB"}, {"microphone": "default", "microphone_chunk_ms": 40.0}):
        capture.open_sources("camera", clock=FakeClock(), **options).close()
    assert seen == [{"device": "USB", "chunk_ms": 10}, {"device": None, "chunk_ms": 40.0}]
