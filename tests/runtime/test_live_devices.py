"""Live runs whose camera, light or screen is not as it should be, in this process: what people are
shown first, what is waited for, and what systemd is told meanwhile."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emotion_edge.engines.bundles.startup import BundleChoice
from emotion_edge.runtime import health as monitor
from emotion_edge.runtime import live
from emotion_edge.runtime.capture import Sources, reconnect
from emotion_edge.runtime.capture.reconnect import (
    ReconnectingAudio,
    ReconnectingVideo,
    WaitPolicy,
)
from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.config import Config, ConfigError, Source
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import AudioChunk, Health, SourceError, VideoFrame
from emotion_edge.runtime.perception import pacing
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.service.indicator import Indicator, IndicatorError

from .devices import SECOND, Camera, Microphone

if TYPE_CHECKING:
    from .conftest import Collector

pytestmark = pytest.mark.usefixtures("no_thread_left")
OUT = "the lamp cannot be turned on"


class Lamp:
    """A light that may be broken. What is done is noted in `events`, which others share."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.broken = False
        self.on = False
        self.tries = 0

    def turn_on(self) -> None:
        self.tries += 1
        if self.broken:
            raise IndicatorError(OUT)
        self.on = True
        self.events.append("light on")

    def turn_off(self) -> None:
        self.on = False
        self.events.append("light off")

    def is_on(self) -> bool:
        return self.on and not self.broken


class RecordingCamera(Camera):
    """Notes its first picture and its end, and counts what is read of it."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.reads = 0

    def read(self) -> VideoFrame | None:
        if not self.reads:
            self.events.append("first picture")
        self.reads += 1
        return super().read()

    def close(self) -> None:
        self.events.append("camera closed")
        super().close()


class RecordingMicrophone(Microphone):
    """Notes the same."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.reads = 0

    def read(self) -> AudioChunk | None:
        self.reads += 1
        return super().read()

    def close(self) -> None:
        self.events.append("microphone closed")
        super().close()


class Stage:
    """A camera and a microphone behind a lamp, and what happens in which order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.lamp = Lamp(self.events)
        self.make_camera: Callable[[list[str]], RecordingCamera] = RecordingCamera
        self.with_audio = False
        self.cameras: list[RecordingCamera] = []
        self.microphones: list[RecordingMicrophone] = []
        monkeypatch.setattr(live, "open_indicator", lambda *_: Indicator(self.lamp))
        monkeypatch.setattr(live, "open_sources", self.open_sources)

    @property
    def reads(self) -> int:
        """Pictures and pieces of sound so far."""
        return sum(device.reads for device in (*self.cameras, *self.microphones))

    def open_sources(self, *_: object, wait_policy: WaitPolicy, **__: object) -> Sources:
        """As the program does it, but for the devices themselves."""
        waiting, clock = wait_policy, MonotonicClock()
        video = ReconnectingVideo("camera", self.open_camera, clock, waiting)
        if not self.with_audio:
            return Sources(video, None, "fake", camera=video)
        audio = ReconnectingAudio("microphone", self.open_microphone, clock, waiting)
        return Sources(video, audio, "fake", camera=video, microphone=audio)

    def open_camera(self) -> RecordingCamera:
        self.events.append("camera opened")
        self.cameras.append(self.make_camera(self.events))
        return self.cameras[-1]

    def open_microphone(self) -> RecordingMicrophone:
        self.events.append("microphone opened")
        self.microphones.append(RecordingMicrophone(self.events))
        return self.microphones[-1]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The monitor looks often, and what is waited for is tried often."""
    monkeypatch.setattr(monitor, "PERIOD_NS", SECOND // 50)
    monkeypatch.setattr(pacing, "AUDIO_ONLY_PERIOD_NS", SECOND // 100)
    monkeypatch.setattr(reconnect, "PAUSE_POLL_NS", SECOND // 100)
    return Stage(monkeypatch)


class Systemd:
    """What the program tells it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._seen: list[str] = []

    @property
    def messages(self) -> list[str]:
        while True:
            try:
                self._seen.append(self._listener.recv(4096).decode())
            except BlockingIOError:
                return self._seen

    def count_pings(self) -> int:
        return self.messages.count("WATCHDOG=1")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Systemd]:
    """It wants a ping every millisecond, so that each look of the monitor may be one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield Systemd(listener)


# The light


def test_indicator_is_on_before_capture(
    configure: Callable[..., Config], collector: Collector, stage: Stage
) -> None:
    """And off when nothing is any more: the camera is closed before."""
    run = LiveRun(configure("camera"), [collector])
    collector.on_publish = lambda _: run.stop()
    run.run()
    assert stage.events[:3] == ["light on", "camera opened", "first picture"]
    assert stage.events[-1] == "light off"
    assert "camera closed" in stage.events
    assert not stage.lamp.on


def test_indicator_goes_off_after_a_failure(
    configure: Callable[..., Config], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the run, here sources that cannot be opened."""

    def fail(*_: object, **__: object) -> Sources:
        raise SourceError("no such camera")

    monkeypatch.setattr(live, "open_sources", fail)
    with pytest.raises(SourceError, match="no such camera"):
        LiveRun(configure("camera"), []).run()
    assert stage.events == ["light on", "light off"]


def test_nothing_is_captured_without_the_indicator(
    configure: Callable[..., Config], stage: Stage
) -> None:
    """A light that cannot be turned on ends the run before any source is opened."""
    stage.lamp.broken = True
    with pytest.raises(IndicatorError, match=OUT):
        LiveRun(configure("camera"), []).run()
    assert stage.events == []
    assert stage.lamp.tries == 1


def test_run_waits_for_the_indicator(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    systemd: Systemd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `wait_for_devices`: ready, alive and saying so to all who ask, but with no device opened
    until it is on; then as ever. The log has one line when it begins and one when it is over."""
    stage.lamp.broken = True
    stage.with_audio = True
    dark: list[int] = []
    screen = PreviewScreen()

    def look(health: Health) -> None:
        pings = systemd.count_pings()  # its queue is short
        if health.faults:
            assert health.faults == (f"not capturing: {OUT}",)
            assert stage.events == []
            dark.append(pings)
            stage.lamp.broken = len(dark) < 20 or pings <= 5

    settings = configure("camera", "wait_for_devices=true")
    run = LiveRun(settings, [collector, screen], screens=[screen], on_health=look)
    collector.on_publish = lambda _: run.stop() if stage.microphones else None
    with caplog.at_level(logging.WARNING):
        run.run()
    ready = [message for message in systemd.messages if message.startswith("READY=1")]
    assert ready == [f"READY=1\nSTATUS=not capturing: {OUT}"]
    assert any(line.startswith(f"STATUS=not capturing: {OUT}; 0 fps") for line in systemd.messages)
    assert screen.faults[0] == (f"not capturing: {OUT}",)
    assert screen.faults[-1] == ()
    assert stage.events[0] == "light on"
    assert {"camera opened", "microphone opened"} <= set(stage.events[1:])
    assert caplog.messages == [f"not capturing: {OUT}", "indicator is back"]


def test_waiting_for_the_indicator_can_be_stopped(
    configure: Callable[..., Config], stage: Stage
) -> None:
    """By `stop`, from anywhere; nothing was opened, and nothing is turned off."""
    stage.lamp.broken = True
    run = LiveRun(configure("camera", "wait_for_devices=true"), [], on_health=lambda _: run.stop())
    run.run()
    assert stage.events == []


def test_capture_stops_when_the_indicator_goes_off(
    configure: Callable[..., Config], collector: Collector, stage: Stage, systemd: Systemd
) -> None:
    """Camera and microphone are closed, and opened when it is on again, with the run alive and
    saying why; then it goes on where it was."""
    lamp = stage.lamp
    stage.with_audio = True
    dark: list[tuple[int, int]] = []
    """Each time the monitor has looked while it is dark: what was read, pings."""

    def look(health: Health) -> None:
        if health.faults:
            assert health.faults == (f"not capturing: {OUT}",)
            dark.append((stage.reads, systemd.count_pings()))
            closed = set(stage.events[-2:]) == {"camera closed", "microphone closed"}
            alive = dark[-1][1] >= dark[0][1] + 5
            lamp.broken = not (closed and alive and len(dark) >= 20)
        elif dark and stage.reads > dark[-1][0] + 10 and stage.cameras[-1].reads > 3:
            run.stop()
        elif not dark and collector.estimates and stage.microphones[0].reads:
            lamp.broken = True

    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    reads, _ = zip(*dark, strict=True)
    # One picture and one sound may be on their way just then: read to their end, and not taken.
    assert reads[-1] <= reads[0] + 2
    assert any(f"STATUS=not capturing: {OUT}; " in message for message in systemd.messages)
    assert (len(stage.cameras), len(stage.microphones)) == (2, 2)
    assert stage.microphones[1].reads > 0
    indices = [estimate.index for estimate in collector.estimates]
    assert indices == sorted(indices)


def test_frames_after_the_indicator_went_off_are_dropped(
    configure: Callable[..., Config], collector: Collector, stage: Stage
) -> None:
    """A camera may be awaited for hours: what it gives when the light is off is not looked at."""
    lamp = stage.lamp
    came = threading.Event()

    class LateCamera(RecordingCamera):
        """Comes back once the monitor knows that it is dark."""

        def read(self) -> VideoFrame | None:
            if self.reads == 0:
                lamp.broken = True
                dark.wait()
                came.set()
            return super().read()

    dark = threading.Event()
    looks: list[int] = []

    def look(health: Health) -> None:
        if health.faults:
            dark.set()
        if came.is_set():
            looks.append(len(collector.estimates))
            if len(looks) == 10:
                run.stop()

    stage.make_camera = LateCamera
    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    assert stage.reads == 1
    assert collector.estimates == []


def test_audio_after_the_indicator_went_off_is_dropped(
    configure: Callable[..., Config], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with pictures."""
    heard: list[AudioChunk] = []
    dark, read = threading.Event(), threading.Event()

    class LateMicrophone(RecordingMicrophone):
        def read(self) -> AudioChunk | None:
            stage.lamp.broken = True
            dark.wait()
            read.set()
            return super().read()

    looks: list[Health] = []

    def look(health: Health) -> None:
        if health.faults:
            dark.set()
        if read.is_set():
            looks.append(health)
            if len(looks) == 10:
                run.stop()

    stage.with_audio = True
    monkeypatch.setattr(Synchroniser, "add_audio", lambda _, chunk: heard.append(chunk))
    monkeypatch.setattr(stage, "open_microphone", lambda: LateMicrophone(stage.events))
    run = LiveRun(configure("camera"), [], on_health=look)
    run.run()
    assert heard == []


# The camera


def wait_for_nothing(gone: threading.Event) -> Callable[[], Camera]:
    """A function that never opens a camera, and does not spin."""

    def open_device() -> Camera:
        gone.wait(0.02)
        raise SourceError("no such device")

    return open_device


class SilentCamera(Camera):
    """Is there, and gives nothing: hung, in a way that nobody has noticed."""

    def read(self) -> VideoFrame | None:
        self._stop.wait()
        return None


@pytest.mark.parametrize("kind", ["missing", "silent", "hangs"])
def test_only_a_missing_camera_counts_as_expected_idle(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """While one that is known to be missing is looked for, systemd is told that all is alive,
    though there never was an estimate. One that gives nothing, or whose driver holds up what looks
    for it, gets no ping, so the program is restarted."""
    gone, hangs, clock = threading.Event(), threading.Event(), FakeClock()
    opened = iter([wait_for_nothing(gone)])

    def hang() -> Camera:
        open_nothing = next(opened, None)
        if open_nothing is not None:
            return open_nothing()
        clock.advance(reconnect.OPEN_TIMEOUT_NS)  # and it is not back yet
        hangs.set()
        gone.wait()
        raise SourceError("the end of the test")

    open_camera = {
        "missing": wait_for_nothing(gone),
        "silent": SilentCamera,
        "hangs": hang,
    }[kind]
    seen: list[tuple[tuple[str, ...], int]] = []

    def look(health: Health) -> None:
        pings = systemd.count_pings()  # its queue is short
        if kind != "hangs" or hangs.is_set():
            seen.append((health.faults, pings))
        if len(seen) >= 25 and (kind != "missing" or pings > 5):
            gone.set()
            run.stop()

    camera = ReconnectingVideo("camera", open_camera, clock, WaitPolicy(True))
    sources = Sources(camera, None, "fake", camera=camera)
    if kind == "silent":
        sources = Sources(SilentCamera(), None, "fake")
    monkeypatch.setattr(live, "open_sources", lambda *_, **__: sources)
    run = LiveRun(configure("camera"), [collector], on_health=look)
    run.run()
    assert collector.estimates == []
    troubles, pings = seen[-1]
    if kind == "missing":
        assert troubles == ("camera is missing",)
        status = "STATUS=camera is missing; 0 fps, p99 0.0 ms, 0 misses, level high"
        assert status in systemd.messages
    elif kind == "silent":
        assert troubles == ()
        assert pings == 0
    else:
        assert troubles == ("camera is missing",)
        assert pings <= seen[0][1] + 1  # what was on its way when it hung


def test_missing_devices_of_a_configuration_are_waited_for(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both settings reach those who open the sources."""
    asked: list[object] = []

    def note(source: Source, *, wait_policy: WaitPolicy, **_: object) -> Sources:
        asked.append((wait_policy.wait_for_first, source.microphone_chunk_ms))
        return Sources(Camera(), None, "fake")

    monkeypatch.setattr(live, "open_sources", note)
    for settings in ([], ["wait_for_devices=true", "source.microphone_chunk_ms=40"]):
        LiveRun(configure("camera", *settings), [collector]).run(0.1)
    assert asked == [(False, 10.0), (True, 40.0)]


# The screen


class PreviewScreen:
    """A sink that can show what the camera sees."""

    def __init__(self) -> None:
        self.newest: Callable[[], VideoFrame | None] | None = None
        self.faults: list[tuple[str, ...]] = []
        self.fault = ""
        self.failure: Exception | None = None
        self.showing = True

    def publish(self, estimate: object) -> None: ...

    def close(self) -> None: ...

    def show_camera(self, on: bool) -> None: ...

    def show_preview(self, newest: Callable[[], VideoFrame | None]) -> None:
        self.newest = newest

    def show_faults(self, faults: tuple[str, ...]) -> None:
        self.faults.append(faults)


@pytest.mark.parametrize("wanted", [True, False])
def test_preview_on_the_screen(
    configure: Callable[..., Config], collector: Collector, stage: Stage, wanted: bool
) -> None:
    """The newest one, for the sinks that can show it, and only where it is wanted."""
    screen = PreviewScreen()
    seen: list[VideoFrame | None] = []
    settings = ["screen.picture=true"] if wanted else []
    run = LiveRun(configure("camera", *settings), [collector, screen], screens=[screen])

    def look(_: object) -> None:
        if screen.newest is not None:
            seen.append(screen.newest())
        run.stop()

    collector.on_publish = look
    run.run()
    assert (screen.newest is not None) == wanted
    if wanted:
        assert screen.newest is not None
        assert isinstance(seen[0], VideoFrame)
        assert screen.newest() is None  # after the end there is none
        assert not seen[0].image.any()


def test_faults_reach_the_screen(
    configure: Callable[..., Config],
    collector: Collector,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sink that shows troubles hears of the camera's, and of another sink's own."""
    screen = PreviewScreen()
    serial = PreviewScreen()
    serial.fault = "serial /dev/ttyS9 is missing"
    gone = threading.Event()
    missing = ReconnectingVideo("camera", wait_for_nothing(gone), FakeClock(), WaitPolicy(True))
    sources = Sources(missing, None, "fake", camera=missing)
    monkeypatch.setattr(live, "open_sources", lambda *_, **__: sources)

    def look(health: Health) -> None:
        if len(health.faults) == 2:
            run.stop()

    run = LiveRun(
        configure("camera"),
        [collector, screen],
        workers=[serial],
        screens=[screen],
        on_health=look,
    )
    run.run()
    assert screen.faults[-1] == ("camera is missing", "serial /dev/ttyS9 is missing")


@pytest.mark.parametrize("lit", [True, False])
def test_bug_in_the_thread_of_a_sink(
    configure: Callable[..., Config], stage: Stage, lit: bool
) -> None:
    """Ends the run, also when there is no estimate that the sink would refuse."""
    stage.lamp.broken = not lit
    sink = PreviewScreen()
    sink.failure = RuntimeError("a bug of ours")
    run = LiveRun(configure("camera", "wait_for_devices=true"), [sink], workers=[sink])
    with pytest.raises(RuntimeError, match="a bug of ours"):
        run.run()


# The bundle


def note(choice: BundleChoice, found: list[BundleChoice]) -> None:
    found.append(choice)


class Verdicts:
    """What becomes of the bundle of each run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.confirmed: list[BundleChoice] = []
        self.forgiven: list[BundleChoice] = []
        # No methods of a list: they would not be bound to the choice.
        monkeypatch.setattr(BundleChoice, "mark_good", lambda choice: note(choice, self.confirmed))
        monkeypatch.setattr(BundleChoice, "discount", lambda choice: note(choice, self.forgiven))


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Verdicts:
    return Verdicts(monkeypatch)


def test_orderly_end_marks_the_bundle_good(
    configure: Callable[..., Config], stage: Stage, verdicts: Verdicts
) -> None:
    """Also of a run that was too short to settle."""
    runtime = LiveRun(configure("camera"), []).run(0.1)
    assert (verdicts.confirmed, verdicts.forgiven) == ([runtime.choice], [])


def test_run_without_estimates_marks_nothing_good(
    configure: Callable[..., Config], stage: Stage, verdicts: Verdicts
) -> None:
    """Told to stop while it waits for its light: the start does not count, and that is all."""
    stage.lamp.broken = True
    settings = configure("camera", "wait_for_devices=true")
    run = LiveRun(settings, [], on_health=lambda _: run.stop())
    runtime = run.run()
    assert (verdicts.confirmed, verdicts.forgiven) == ([], [runtime.choice])


def test_failures_of_devices_are_not_the_bundles(
    configure: Callable[..., Config],
    stage: Stage,
    verdicts: Verdicts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a source, while it runs or when it is opened, of the light, of a port that is taken."""
    sources = Sources(Camera(3), Microphone(), "fake")
    with monkeypatch.context() as patch:
        patch.setattr(live, "open_sources", lambda *_, **__: sources)
        with pytest.raises(SourceError, match="unplugged"):
            LiveRun(configure("camera"), []).run()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="cannot be listened on"):
            LiveRun(configure("camera", f"metrics.port={port}"), []).run()
    stage.lamp.broken = True
    with pytest.raises(IndicatorError):
        LiveRun(configure("camera"), []).run()
    assert (verdicts.confirmed, len(verdicts.forgiven)) == ([], 3)


def test_bug_counts_against_the_bundle(
    configure: Callable[..., Config],
    stage: Stage,
    verdicts: Verdicts,
    collector: Collector,
) -> None:
    """What it brought may be what the program stumbles over."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    collector.on_publish = fail
    with pytest.raises(ZeroDivisionError):
        LiveRun(configure("camera"), [collector]).run()
    assert (verdicts.confirmed, verdicts.forgiven) == ([], [])
