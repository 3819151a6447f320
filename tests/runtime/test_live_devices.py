"""Live runs with faults of camera, indicator and screen: the order of events, what the run waits
for, what systemd receives, and the trial of the bundle."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emotion_edge.engines.bundles.startup import BundleChoice
from emotion_edge.runtime import health, live
from emotion_edge.runtime.capture import Sources, reconnect
from emotion_edge.runtime.capture.reconnect import (
    ReconnectingAudio,
    ReconnectingVideo,
    WaitPolicy,
)
from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.config import Config, Source
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import (
    AudioChunk,
    Health,
    ListenError,
    SourceError,
    VideoFrame,
)
from emotion_edge.runtime.perception import pacing
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.service.indicator import Indicator, IndicatorError

from .devices import SECOND, FakeCamera, FakeMicrophone

if TYPE_CHECKING:
    from .conftest import Collector

pytestmark = pytest.mark.usefixtures("no_thread_left")
LED_FAULT = "the LED cannot be turned on"


class FakeLed:
    """An indicator that can be broken. It records what happens in `events`."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.broken = False
        self.on = False
        self.tries = 0

    def turn_on(self) -> None:
        self.tries += 1
        if self.broken:
            raise IndicatorError(LED_FAULT)
        self.on = True
        self.events.append("indicator on")

    def turn_off(self) -> None:
        self.on = False
        self.events.append("indicator off")

    def is_on(self) -> bool:
        return self.on and not self.broken


class RecordingCamera(FakeCamera):
    """Records its first frame and its end, and counts its reads."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.reads = 0

    def read(self) -> VideoFrame | None:
        if not self.reads:
            self.events.append("first frame")
        self.reads += 1
        return super().read()

    def close(self) -> None:
        self.events.append("camera closed")
        super().close()


class RecordingMicrophone(FakeMicrophone):
    """Records its end, and counts its reads."""

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


class Devices:
    """Camera, microphone and indicator of a run, with the events in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.led = FakeLed(self.events)
        self.make_camera: Callable[[list[str]], RecordingCamera] = RecordingCamera
        self.with_audio = False
        self.cameras: list[RecordingCamera] = []
        self.microphones: list[RecordingMicrophone] = []
        monkeypatch.setattr(live, "open_indicator", lambda *_: Indicator(self.led))
        monkeypatch.setattr(live, "open_sources", self.open_sources)

    @property
    def reads(self) -> int:
        """Frames and audio chunks so far."""
        return sum(device.reads for device in (*self.cameras, *self.microphones))

    def open_sources(self, *_: object, wait_policy: WaitPolicy, **__: object) -> Sources:
        """Like the program, with fake devices."""
        clock = MonotonicClock()
        video = ReconnectingVideo("camera", self.open_camera, clock, wait_policy)
        if not self.with_audio:
            return Sources(video, None, "fake", camera=video)
        audio = ReconnectingAudio("microphone", self.open_microphone, clock, wait_policy)
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
def devices(monkeypatch: pytest.MonkeyPatch) -> Devices:
    """Polling and retries are fast."""
    monkeypatch.setattr(health, "PERIOD_NS", SECOND // 50)
    monkeypatch.setattr(pacing, "AUDIO_ONLY_PERIOD_NS", SECOND // 100)
    monkeypatch.setattr(reconnect, "PAUSE_POLL_NS", SECOND // 100)
    return Devices(monkeypatch)


class Systemd:
    """The messages of the program to systemd."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._received: list[str] = []

    @property
    def messages(self) -> list[str]:
        while True:
            try:
                self._received.append(self._listener.recv(4096).decode())
            except BlockingIOError:
                return self._received

    def count_pings(self) -> int:
        return self.messages.count("WATCHDOG=1")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Systemd]:
    """It expects a ping every 2 ms, so that each poll of the monitor may send one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield Systemd(listener)


# The indicator


def test_indicator_is_on_before_capture(
    configure: Callable[..., Config], collector: Collector, devices: Devices
) -> None:
    """And off only after the camera is closed."""
    run = LiveRun(configure("camera"), [collector])
    collector.on_publish = lambda _: run.stop()
    run.run()
    assert devices.events[:3] == ["indicator on", "camera opened", "first frame"]
    assert devices.events[-1] == "indicator off"
    assert "camera closed" in devices.events
    assert not devices.led.on


def test_indicator_goes_off_after_a_failure(
    configure: Callable[..., Config], devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here sources that cannot be opened end the run."""

    def fail(*_: object, **__: object) -> Sources:
        raise SourceError("no such camera")

    monkeypatch.setattr(live, "open_sources", fail)
    with pytest.raises(SourceError, match="no such camera"):
        LiveRun(configure("camera"), []).run()
    assert devices.events == ["indicator on", "indicator off"]


def test_nothing_is_captured_without_the_indicator(
    configure: Callable[..., Config], devices: Devices
) -> None:
    """An indicator that cannot be turned on ends the run before any device is opened."""
    devices.led.broken = True
    with pytest.raises(IndicatorError, match=LED_FAULT):
        LiveRun(configure("camera"), []).run()
    assert devices.events == []
    assert devices.led.tries == 1


def test_run_waits_for_the_indicator(
    configure: Callable[..., Config],
    collector: Collector,
    devices: Devices,
    systemd: Systemd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `wait_for_devices` the run is ready and alive, reports the fault, and opens no device
    until the indicator is on. The log has one line at the beginning and one at the end."""
    devices.led.broken = True
    devices.with_audio = True
    pings_while_off: list[int] = []
    screen = FakeScreen()

    def on_health(state: Health) -> None:
        pings = systemd.count_pings()  # its queue is short
        if state.faults:
            assert state.faults == (f"not capturing: {LED_FAULT}",)
            assert devices.events == []
            pings_while_off.append(pings)
            devices.led.broken = len(pings_while_off) < 20 or pings <= 5

    settings = configure("camera", "wait_for_devices=true")
    run = LiveRun(settings, [collector, screen], screens=[screen], on_health=on_health)
    collector.on_publish = lambda _: run.stop() if devices.microphones else None
    with caplog.at_level(logging.WARNING):
        run.run()
    messages = systemd.messages
    ready = [message for message in messages if message.startswith("READY=1")]
    assert ready == [f"READY=1\nSTATUS=not capturing: {LED_FAULT}"]
    assert any(line.startswith(f"STATUS=not capturing: {LED_FAULT}; 0 fps") for line in messages)
    assert screen.faults[0] == (f"not capturing: {LED_FAULT}",)
    assert screen.faults[-1] == ()
    assert devices.events[0] == "indicator on"
    assert {"camera opened", "microphone opened"} <= set(devices.events[1:])
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert caplog.messages[0] == screen.faults[0][0]


def test_waiting_for_the_indicator_can_be_stopped(
    configure: Callable[..., Config], devices: Devices
) -> None:
    """By `stop`, from any thread. Nothing was opened, and nothing is turned off."""
    devices.led.broken = True
    run = LiveRun(configure("camera", "wait_for_devices=true"), [], on_health=lambda _: run.stop())
    run.run()
    assert devices.events == []


def test_capture_stops_when_the_indicator_goes_off(
    configure: Callable[..., Config], collector: Collector, devices: Devices, systemd: Systemd
) -> None:
    """Camera and microphone are closed until it is on again. Meanwhile the run is alive and reports
    the fault."""
    led = devices.led
    devices.with_audio = True
    while_off: list[tuple[int, int]] = []
    """Reads and pings at each poll while the indicator is off."""

    def on_health(state: Health) -> None:
        if state.faults:
            assert state.faults == (f"not capturing: {LED_FAULT}",)
            while_off.append((devices.reads, systemd.count_pings()))
            closed = set(devices.events[-2:]) == {"camera closed", "microphone closed"}
            alive = while_off[-1][1] >= while_off[0][1] + 5
            led.broken = not (closed and alive and len(while_off) >= 20)
        elif while_off and devices.reads > while_off[-1][0] + 10 and devices.cameras[-1].reads > 3:
            run.stop()
        elif not while_off and collector.estimates and devices.microphones[0].reads:
            led.broken = True

    run = LiveRun(configure("camera"), [collector], on_health=on_health)
    run.run()
    reads, _ = zip(*while_off, strict=True)
    # One frame and one chunk may be in the middle of a read, and are then dropped.
    assert reads[-1] <= reads[0] + 2
    assert any(f"STATUS=not capturing: {LED_FAULT}; " in message for message in systemd.messages)
    assert (len(devices.cameras), len(devices.microphones)) == (2, 2)
    assert devices.microphones[1].reads > 0
    indices = [estimate.index for estimate in collector.estimates]
    assert indices == sorted(indices)


def test_frames_after_the_indicator_went_off_are_dropped(
    configure: Callable[..., Config], collector: Collector, devices: Devices
) -> None:
    """A read may take hours. The frame is dropped if the indicator is off at its end."""
    led = devices.led
    off, read = threading.Event(), threading.Event()

    class LateCamera(RecordingCamera):
        def read(self) -> VideoFrame | None:
            if self.reads == 0:
                led.broken = True
                off.wait()
                read.set()
            return super().read()

    polls: list[int] = []

    def on_health(state: Health) -> None:
        if state.faults:
            off.set()
        if read.is_set():
            polls.append(len(collector.estimates))
            if len(polls) == 10:
                run.stop()

    devices.make_camera = LateCamera
    run = LiveRun(configure("camera"), [collector], on_health=on_health)
    run.run()
    assert devices.reads == 1
    assert collector.estimates == []


def test_audio_after_the_indicator_went_off_is_dropped(
    configure: Callable[..., Config], devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with frames."""
    added: list[AudioChunk] = []
    off, read = threading.Event(), threading.Event()

    class LateMicrophone(RecordingMicrophone):
        def read(self) -> AudioChunk | None:
            devices.led.broken = True
            off.wait()
            read.set()
            return super().read()

    polls: list[Health] = []

    def on_health(state: Health) -> None:
        if state.faults:
            off.set()
        if read.is_set():
            polls.append(state)
            if len(polls) == 10:
                run.stop()

    devices.with_audio = True
    monkeypatch.setattr(Synchroniser, "add_audio", lambda _, chunk: added.append(chunk))
    monkeypatch.setattr(devices, "open_microphone", lambda: LateMicrophone(devices.events))
    run = LiveRun(configure("camera"), [], on_health=on_health)
    run.run()
    assert added == []


# The camera


def wait_for_nothing(gone: threading.Event) -> Callable[[], FakeCamera]:
    """A function that fails to open a camera, without a busy loop."""

    def open_device() -> FakeCamera:
        gone.wait(0.02)
        raise SourceError("no such device")

    return open_device


class SilentCamera(FakeCamera):
    """Gives neither frames nor an error."""

    def read(self) -> VideoFrame | None:
        self._stop.wait()
        return None


@pytest.mark.parametrize("kind", ["missing", "silent", "hangs"])
def test_only_a_missing_camera_counts_as_expected_idle(
    configure: Callable[..., Config],
    collector: Collector,
    devices: Devices,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """While a missing camera is retried, the watchdog is pinged without any estimate. A silent
    camera, or a driver that hangs while it opens, gets no ping, so systemd restarts the program."""
    gone, hangs, clock = threading.Event(), threading.Event(), FakeClock()
    opened = iter([wait_for_nothing(gone)])

    def hang() -> FakeCamera:
        open_nothing = next(opened, None)
        if open_nothing is not None:
            return open_nothing()
        clock.advance(reconnect.OPEN_TIMEOUT_NS)
        hangs.set()
        gone.wait()
        raise SourceError("the end of the test")

    open_camera = {
        "missing": wait_for_nothing(gone),
        "silent": SilentCamera,
        "hangs": hang,
    }[kind]
    polls: list[tuple[tuple[str, ...], int]] = []

    def on_health(state: Health) -> None:
        pings = systemd.count_pings()  # its queue is short
        if kind != "hangs" or hangs.is_set():
            polls.append((state.faults, pings))
        if len(polls) >= 25 and (kind != "missing" or pings > 5):
            gone.set()
            run.stop()

    camera = ReconnectingVideo("camera", open_camera, clock, WaitPolicy(True))
    sources = Sources(camera, None, "fake", camera=camera)
    if kind == "silent":
        sources = Sources(SilentCamera(), None, "fake")
    monkeypatch.setattr(live, "open_sources", lambda *_, **__: sources)
    run = LiveRun(configure("camera"), [collector], on_health=on_health)
    run.run()
    assert collector.estimates == []
    faults, pings = polls[-1]
    if kind == "missing":
        assert faults == ("camera is missing",)
        status = "STATUS=camera is missing; 0 fps, p99 0.0 ms, 0 misses, level high"
        assert status in systemd.messages
    elif kind == "silent":
        assert faults == ()
        assert pings == 0
    else:
        assert faults == ("camera is missing",)
        assert pings <= polls[0][1] + 1  # one may have been due when it hung


def test_settings_of_the_sources(
    configure: Callable[..., Config],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`wait_for_devices` and the section `source` reach `open_sources`."""
    received: list[object] = []

    def open_fake(source: Source, *, wait_policy: WaitPolicy, **_: object) -> Sources:
        received.append((wait_policy.wait_for_first, source.microphone_chunk_ms))
        return Sources(FakeCamera(), None, "fake")

    monkeypatch.setattr(live, "open_sources", open_fake)
    for settings in ([], ["wait_for_devices=true", "source.microphone_chunk_ms=40"]):
        LiveRun(configure("camera", *settings), [collector]).run(0.1)
    assert received == [(False, 10.0), (True, 40.0)]


# The screen


class FakeScreen:
    """A screen and worker that records its faults and its source of previews."""

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
    configure: Callable[..., Config], collector: Collector, devices: Devices, wanted: bool
) -> None:
    """With `screen.picture` it shows the newest frame, which is wiped at the end."""
    screen = FakeScreen()
    previews: list[VideoFrame | None] = []
    settings = ["screen.picture=true"] if wanted else []
    run = LiveRun(configure("camera", *settings), [collector, screen], screens=[screen])

    def record(_: object) -> None:
        if screen.newest is not None:
            previews.append(screen.newest())
        run.stop()

    collector.on_publish = record
    run.run()
    assert (screen.newest is not None) == wanted
    if wanted:
        assert screen.newest is not None
        assert isinstance(previews[0], VideoFrame)
        assert screen.newest() is None
        assert not previews[0].image.any()


def test_faults_reach_the_screen(
    configure: Callable[..., Config],
    collector: Collector,
    devices: Devices,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the camera and of another sink."""
    screen, serial = FakeScreen(), FakeScreen()
    serial.fault = "serial /dev/ttyS9 is missing"
    gone = threading.Event()
    missing = ReconnectingVideo("camera", wait_for_nothing(gone), FakeClock(), WaitPolicy(True))
    sources = Sources(missing, None, "fake", camera=missing)
    monkeypatch.setattr(live, "open_sources", lambda *_, **__: sources)

    def on_health(state: Health) -> None:
        if len(state.faults) == 2:
            run.stop()

    run = LiveRun(
        configure("camera"),
        [collector, screen],
        workers=[serial],
        screens=[screen],
        on_health=on_health,
    )
    run.run()
    assert screen.faults[-1] == ("camera is missing", "serial /dev/ttyS9 is missing")


@pytest.mark.parametrize("lit", [True, False])
def test_failure_of_a_worker_ends_the_run(
    configure: Callable[..., Config], devices: Devices, lit: bool
) -> None:
    """Also while there is no estimate to publish."""
    devices.led.broken = not lit
    sink = FakeScreen()
    sink.failure = RuntimeError("bug")
    run = LiveRun(configure("camera", "wait_for_devices=true"), [sink], workers=[sink])
    with pytest.raises(RuntimeError, match="bug"):
        run.run()


# The bundle


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of the bundle on trial, for each run."""
    outcomes: list[str] = []
    monkeypatch.setattr(BundleChoice, "mark_good", lambda _: outcomes.append("good"))
    monkeypatch.setattr(BundleChoice, "discount", lambda _: outcomes.append("discounted"))
    return outcomes


def test_orderly_end_marks_the_bundle_good(
    configure: Callable[..., Config], devices: Devices, outcomes: list[str]
) -> None:
    """Also after a run shorter than `SETTLED_NS`."""
    LiveRun(configure("camera"), []).run(0.1)
    assert outcomes == ["good"]


def test_failures_of_devices_are_not_the_bundles(
    configure: Callable[..., Config],
    devices: Devices,
    outcomes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A source that fails, a port in use, an indicator that fails: the start is discounted."""
    sources = Sources(FakeCamera(3), FakeMicrophone(), "fake")
    with monkeypatch.context() as patch:
        patch.setattr(live, "open_sources", lambda *_, **__: sources)
        with pytest.raises(SourceError, match="unplugged"):
            LiveRun(configure("camera"), []).run()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ListenError, match=r"metrics\.port"):
            LiveRun(configure("camera", f"metrics.port={port}"), []).run()
    devices.led.broken = True
    with pytest.raises(IndicatorError):
        LiveRun(configure("camera"), []).run()
    assert outcomes == ["discounted"] * 3
