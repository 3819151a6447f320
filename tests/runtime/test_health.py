"""The monitor: health, faults, overload, traces, the trial of a bundle."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.startup import BundleChoice
from emotion_edge.runtime.board.status import BoardStatus
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.health import (
    PERIOD_NS,
    Components,
    Monitor,
    list_faults,
    measure_health,
)
from emotion_edge.runtime.messages import Health, Window
from emotion_edge.runtime.quality.controller import LevelCost, QualityController
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.service.sd_notify import Watchdog
from emotion_edge.runtime.session import Runtime, open_runtime
from emotion_edge.runtime.telemetry.trace import TraceWriter
from emotion_edge.runtime.update_check import SETTLED_NS

SECOND = 1_000_000_000
BOARD = BoardStatus(10.0, 4000.0, 300.0, 55.5, None)


class FakeBoard:
    """A board whose sensors the test sets."""

    def __init__(self) -> None:
        self.status = BOARD

    def read(self) -> BoardStatus:
        return self.status


@pytest.fixture
def configure(null_bundle: Path) -> Callable[..., Config]:
    """A function (settings) -> a configuration of the demo with the null engine."""
    fixed = ["source.name=demo", f"bundle='{null_bundle}'", "engines.name=null"]
    return lambda *settings: load_config(None, [*fixed, *settings])


@pytest.fixture
def runtime(configure: Callable[..., Config]) -> Iterator[Runtime]:
    """A runtime on a fake clock, with a quality controller."""
    with open_runtime(configure(), FakeClock(SECOND)) as runtime:
        costs = [LevelCost(name, 0.1, 5.0, 0.0) for name in ("high", "low")]
        runtime.quality = QualityController(costs, 45.0)
        yield runtime


def make_monitor(runtime: Runtime, board: FakeBoard | None = None, **given: object) -> Monitor:
    watchdog = Watchdog(runtime.clock, {})
    return Monitor(runtime, board or FakeBoard(), watchdog, **given)  # type: ignore[arg-type]


def test_health(configure: Callable[..., Config]) -> None:
    """The health of a finished run that misses each budget."""
    runtime = run_replay(configure("budget_ms=0.001"), [], 1)
    health = measure_health(runtime, 30.0, BOARD)
    assert (health.frames, health.misses, health.fps) == (30, 30, 30.0)
    assert 0 < health.latency_p50_ms <= health.latency_p95_ms <= health.latency_p99_ms
    assert health.latency_p99_ms <= health.latency_max_ms
    assert sum(health.misses_by_cause.values()) == 30
    assert health.drops == {
        "frames": 0,
        "source_frames": 0,
        "audio_gaps": 0,
        "audio_overrun_samples": 0,
        "face_not_finite": 0,
        "voice_not_finite": 0,
    }
    assert abs(health.drift_ppm) < 1
    assert (health.temperature_c, health.level, health.level_switches) == (55.5, "high", 0)
    assert health.board == BOARD


def test_dropped_frames_add_up(runtime: Runtime) -> None:
    """The health has the sum of the frames that each window dropped."""
    for _ in range(2):
        runtime.process(Window(0, None, (), None, None, 0, 3, False), 0, 0, [])
    assert measure_health(runtime, 0, BOARD).drops["frames"] == 6


@pytest.mark.parametrize(
    ("since_s", "skew_ms"), [(0.0, 7.0), (2.0, 7.0), (2.1, 0.0), (3600.0, 0.0)]
)
def test_skew_is_of_a_recent_window(runtime: Runtime, since_s: float, skew_ms: float) -> None:
    """It is 0 while no windows come, as before the first one."""
    clock = runtime.clock
    assert isinstance(clock, FakeClock)
    assert measure_health(runtime, 0, BOARD).skew_ms == 0
    now_ns = clock.now_ns()
    runtime.process(Window(0, None, (), None, None, 7_000_000, 0, False), now_ns, now_ns, [])
    clock.advance(round(since_s * SECOND))
    assert measure_health(runtime, 0, BOARD).skew_ms == skew_ms


def test_monitor_runs_twice_a_second_until_stopped(runtime: Runtime) -> None:
    """Each health has the frame rate since the one before."""
    stop = threading.Event()
    seen: list[Health] = []

    def poll(health: Health) -> None:
        seen.append(health)
        for _ in range(15):
            runtime.process(Window(0, None, (), None, None, 0, 0, False), 0, 0, [])
        if len(seen) == 3:
            stop.set()

    monitor = make_monitor(runtime, on_health=poll)
    monitor.run(stop)
    assert [health.t_ns for health in seen] == [SECOND + n * PERIOD_NS for n in (1, 2, 3)]
    assert [health.fps for health in seen] == [0, 30, 30]
    assert monitor.newest is seen[-1]


@pytest.mark.parametrize("stall_ns", [10 * SECOND, 10 * SECOND + 1, 10 * SECOND + PERIOD_NS // 3])
def test_polls_missed_in_a_stall_are_skipped(runtime: Runtime, stall_ns: int) -> None:
    """There is one poll after a stall, and the next ones are on the same grid."""
    stop = threading.Event()
    seen: list[int] = []

    def poll(health: Health) -> None:
        seen.append(health.t_ns)
        if len(seen) == 2:
            assert isinstance(runtime.clock, FakeClock)
            runtime.clock.advance(stall_ns)
        if len(seen) == 5:
            stop.set()

    make_monitor(runtime, on_health=poll).run(stop)
    missed = -(-stall_ns // PERIOD_NS)
    ticks = [1, 2, 2 + missed, 3 + missed, 4 + missed]
    assert seen == [SECOND + n * PERIOD_NS for n in ticks]


def test_board_reaches_the_controller(runtime: Runtime) -> None:
    """A board that throttles causes a step down with the next frame."""
    board = FakeBoard()
    monitor = make_monitor(runtime, board)
    costs = [LevelCost(name, 0.1, 5.0, 0.0) for name in ("high", "low")]
    quality = runtime.quality = QualityController(costs, 10.0)
    for count in (1, 2):
        board.status = replace(BOARD, throttle_events={"thermal": count})
        monitor.poll()
        quality.observe(count * 10 * SECOND, 0.5, 5.0, True, False)
    assert quality.level == 1


def test_overload_is_logged_once_a_minute(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the budget, the level and the predicted latency."""
    runtime.quality = QualityController([LevelCost("low", 0.1, 5.0, 0.0)], 1.0)
    runtime.latency.budget_ms = 1.0
    monitor = make_monitor(runtime)
    assert isinstance(runtime.clock, FakeClock)
    for _ in range(10):
        runtime.quality.observe(runtime.clock.now_ns(), 0.1, 5.1, True, False)
    with caplog.at_level(logging.WARNING, "emotion_edge"):
        for _ in range(250):  # 125 s
            monitor.poll()
            runtime.clock.advance(PERIOD_NS)
    assert [(record.args or ())[:2] for record in caplog.records] == [(1.0, "high")] * 3  # type: ignore[index]


def test_late_frame_writes_a_trace(runtime: Runtime, tmp_path: Path) -> None:
    """A frame within the budget writes none."""
    monitor = make_monitor(runtime, trace_writer=TraceWriter(runtime.trace, tmp_path))
    window = Window(0, None, (), None, None, 0, 0, False)
    now_ns = runtime.clock.now_ns()
    runtime.process(window, now_ns, now_ns, [])
    monitor.poll()
    assert list(tmp_path.iterdir()) == []
    runtime.process(window, now_ns - SECOND, now_ns, [])
    monitor.poll()
    assert len(list(tmp_path.iterdir())) == 1


class FakeDevice:
    """A component with a fault that the test sets."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault


class FakeDisplay:
    """A display that records its faults."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, ...]] = []

    def show_faults(self, faults: tuple[str, ...]) -> None:
        self.shown.append(faults)


class RecordingWatchdog(Watchdog):
    """Records the status lines."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.clock, {})
        self.lines: list[str] = []

    def status(self, text: str) -> None:
        self.lines.append(text)


def test_faults_are_collected_and_shown(runtime: Runtime) -> None:
    """Faults reach the health, the start of the status line and the displays in their order. So
    does their end."""
    camera, serial = FakeDevice(), FakeDevice()
    display, watchdog = FakeDisplay(), RecordingWatchdog(runtime)
    components = Components(devices=(camera, serial), displays=(display,))
    monitor = Monitor(runtime, FakeBoard(), watchdog, components=components)

    def poll() -> tuple[str, ...]:
        monitor.poll()
        assert monitor.newest is not None
        return monitor.newest.faults

    both = ("camera is missing", "serial /dev/ttyS9 is missing")
    assert poll() == ()
    camera.fault, serial.fault = both
    assert poll() == both
    camera.fault = ""
    assert poll() == both[1:]
    serial.fault = ""
    assert poll() == ()
    assert display.shown == [(), both, both[1:], ()]
    summary = "0 fps, p99 0.0 ms, 0 misses, level high"
    lines = [summary, "; ".join([*both, summary]), f"{both[1]}; {summary}", summary]
    assert watchdog.lines == lines


class FakeSender:
    """Tells nobody."""

    def __init__(self, **drops: int) -> None:
        self.drops = drops
        self.told: list[Health] = []

    def show_health(self, health: Health) -> None:
        self.told.append(health)


def test_senders_are_told_the_health(runtime: Runtime) -> None:
    """Each gets what all of them have lost, by cause, beside what the run has lost."""
    senders = FakeSender(full=1, old=2), FakeSender(full=3)
    monitor = make_monitor(runtime, components=Components(health_displays=senders, senders=senders))
    monitor.poll()
    assert monitor.newest is not None
    assert senders[0].told == senders[1].told == [monitor.newest]
    drops = monitor.newest.drops
    assert (drops["full"], drops["old"], drops["frames"]) == (4, 2, 0)


class FlickeringFault:
    """A component whose fault ends and returns with each reading."""

    def __init__(self, present: bool) -> None:
        self._present = present

    @property
    def fault(self) -> str:
        self._present = not self._present
        return "indicator is off" if self._present else ""


@pytest.mark.parametrize("present", [False, True])
def test_fault_that_ends_during_a_poll(present: bool) -> None:
    """It is listed or not, but never as an empty text."""
    assert list_faults((FlickeringFault(present),)) in ((), ("indicator is off",))


@pytest.mark.parametrize("kind", ["alive", "hangs", "hangs at once"])
def test_only_a_progressing_run_is_marked_good(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The bundle is marked good once, 25 s after the first result. It never is when results stop
    or never come, however long the monitor polls."""
    marked_ns: list[int] = []
    clock = runtime.clock
    monkeypatch.setattr(BundleChoice, "mark_good", lambda _: marked_ns.append(clock.now_ns()))
    monitor = make_monitor(runtime)
    assert isinstance(clock, FakeClock)
    first_ns = clock.now_ns() + PERIOD_NS
    last = {"alive": 10**6, "hangs": 40, "hangs at once": 0}[kind]
    for number in range(240):  # two minutes
        if number < last:
            runtime.process(Window(0, None, (), None, None, 0, 0, False), 0, 0, [])
            monitor.progress()
        clock.advance(PERIOD_NS)
        monitor.poll()
    assert marked_ns == ([first_ns + SETTLED_NS] if kind == "alive" else [])
