"""The monitor: measures the health of a run twice a second.

In: latency, sensors of the board, faults of the components. Out: a `Health` for metrics and
callers, the status line of systemd, the faults on each display, the sensors for the quality
controller. It also polls the indicator and the disk, pings the watchdog and triggers traces.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from .board import Board, BoardStatus, open_board
from .clock import find_next_tick_ns
from .config import Config
from .messages import (
    BackgroundWorker,
    Faultable,
    FaultDisplay,
    Health,
    HealthDisplay,
    Pollable,
    Sender,
)
from .service import Watchdog
from .session import Runtime
from .telemetry import TraceWriter
from .update_check import Trial

log = logging.getLogger(__name__)

PERIOD_NS = 500_000_000
OVERLOAD_PERIOD_NS = 60_000_000_000
"""Shortest time between two warnings that the budget cannot be held."""


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a run that the monitor polls, listed by capability."""

    pollable: Sequence[Pollable] = ()
    devices: Sequence[Faultable] = ()
    workers: Sequence[BackgroundWorker] = ()
    displays: Sequence[FaultDisplay] = ()
    health_displays: Sequence[HealthDisplay] = ()
    senders: Sequence[Sender] = ()

    @property
    def faultable(self) -> Sequence[Faultable]:
        return (*self.pollable, *self.devices, *self.workers)


class Monitor:
    """Health of one run. `run` is the body of a thread; any thread may read `newest`."""

    def __init__(
        self,
        runtime: Runtime,
        board: Board,
        watchdog: Watchdog,
        trace_writer: TraceWriter | None = None,
        on_health: Callable[[Health], None] | None = None,
        components: Components = Components(),
    ) -> None:
        """`on_health` is called with each result, on the monitor's thread."""
        self.newest: Health | None = None
        self._components = components
        self._runtime = runtime
        self._board = board
        self._watchdog = watchdog
        self._trace_writer = trace_writer
        self._on_health = on_health
        self._last_count = runtime.clock.now_ns(), 0
        self._trial = Trial(runtime.choice, runtime.clock.now_ns())
        self._progressed = False
        self._overload_warned_ns: int | None = None

    def run(self, stop: threading.Event) -> None:
        """Poll every `PERIOD_NS` until `stop`. Raises the error that ended a worker's thread."""
        clock = self._runtime.clock
        due = clock.now_ns()
        while True:
            due = find_next_tick_ns(due, PERIOD_NS, clock.now_ns())
            if clock.sleep_until_ns(due, stop):
                return
            self.poll()

    def progress(self) -> None:
        """Note a result, or a known reason for none. The main thread calls it for each frame."""
        self._progressed = True
        self._watchdog.progress()

    def poll(self) -> None:
        """Measure the health once and report it."""
        runtime = self._runtime
        self._watchdog.tick()
        for component in self._components.pollable:
            component.poll()
        raise_failures(self._components.workers)
        before_ns, before = self._last_count
        self._last_count = now_ns, count = runtime.clock.now_ns(), runtime.latency.count
        fps = (count - before) * 1e9 / max(1, now_ns - before_ns)
        board = self._board.read()
        if runtime.quality is not None:
            runtime.quality.note_board(board)
        faults = list_faults(self._components.faultable)
        lost = count_lost(self._components.senders)
        health = self.newest = measure_health(runtime, fps, board, faults, lost)
        summary = (
            f"{fps:.0f} fps, p99 {health.latency_p99_ms:.1f} ms, {health.misses} misses,"
            f" level {health.level}"
        )
        self._watchdog.status("; ".join([*faults, summary]))
        for display in self._components.displays:
            display.show_faults(faults)
        for health_display in self._components.health_displays:
            health_display.show_health(health)
        self._warn_of_overload(health.t_ns)
        progressed, self._progressed = self._progressed, False
        self._trial.update(health.t_ns, health.frames, progressed)
        if self._trace_writer is not None:
            self._trace_writer.tick(health.t_ns, health.misses)
        if self._on_health is not None:
            self._on_health(health)

    def _warn_of_overload(self, now_ns: int) -> None:
        quality = self._runtime.quality
        if quality is None or not quality.overloaded:
            return
        warned_ns = self._overload_warned_ns
        if warned_ns is None or now_ns - warned_ns >= OVERLOAD_PERIOD_NS:
            self._overload_warned_ns = now_ns
            log.warning(
                "budget_ms is %g and not even level %s holds it: predicted p99 is %.0f ms",
                self._runtime.latency.budget_ms,
                self._runtime.level.name,
                quality.predict_ms(quality.level),
            )


@contextmanager
def open_monitor(
    config: Config,
    runtime: Runtime,
    watchdog: Watchdog,
    trace_writer: TraceWriter | None,
    on_health: Callable[[Health], None] | None,
    components: Components,
) -> Iterator[Monitor]:
    """Open the monitor of a live run, and its metrics if `metrics.port` is set. Raises ConfigError
    and ListenError."""
    with ExitStack() as stack:
        if config.metrics.port:
            from .web.metrics import Metrics

            metrics = stack.enter_context(Metrics(config.metrics, runtime.latency))
            components = replace(
                components,
                devices=(*components.devices, metrics),
                health_displays=(*components.health_displays, metrics),
            )
        yield Monitor(runtime, open_board(), watchdog, trace_writer, on_health, components)


def list_faults(components: Sequence[Faultable]) -> tuple[str, ...]:
    """Return the present faults, in the order of the components."""
    faults = (component.fault for component in components)  # read once each: a fault may end
    return tuple(fault for fault in faults if fault)


def raise_failures(workers: Sequence[BackgroundWorker]) -> None:
    """Raise the error that ended a worker's thread: without estimates, no `publish` raises it."""
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure


def count_lost(senders: Sequence[Sender]) -> Counter[str]:
    """Return what all of them have lost, by cause."""
    lost: Counter[str] = Counter()
    for sender in senders:
        lost.update(sender.drops)
    return lost


def measure_health(
    runtime: Runtime,
    fps: float,
    board: BoardStatus,
    faults: tuple[str, ...] = (),
    lost: Mapping[str, int] | None = None,
) -> Health:
    """Return the health of `runtime` now. `lost`: what outputs have lost, by cause."""
    now_ns, latency = runtime.clock.now_ns(), runtime.latency
    p50, p95, p99 = latency.recent_percentiles_ms(now_ns, 50, 95, 99)
    sync = runtime.synchroniser
    non_finite = runtime.pipeline.non_finite_outputs
    return Health(
        t_ns=now_ns,
        frames=latency.count,
        fps=fps,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
        latency_max_ms=latency.total.max_us / 1e3,
        misses=latency.misses,
        misses_by_cause=dict(latency.misses_by_cause),
        drops={
            "frames": runtime.dropped_frames,
            "source_frames": runtime.missing_frames,
            "audio_gaps": sync.audio_clock.gaps,
            "audio_overrun_samples": sync.overrun_samples,
            **{f"{network}_not_finite": count for network, count in non_finite.items()},
            **(lost or {}),
        },
        skipped=runtime.rate_limiter.skipped,
        skew_ms=runtime.skew_ns(now_ns) / 1e6,
        drift_ppm=sync.audio_clock.drift_ppm,
        faults=faults,
        temperature_c=board.temperature_c,
        level=runtime.level.name,
        level_switches=runtime.level_switches,
        board=board,
    )
