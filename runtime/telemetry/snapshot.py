"""What the metrics say about a run at one moment.

In: the latency log and the health. Out: a `Snapshot`, which another process renders.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from ..messages import Health
from .latency import Histogram, LatencyLog

# fmt: off
LATENCY_BOUNDS_S = (
    0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.06, 0.1, 0.25, 1.0,
)
# fmt: on
STAGE_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram with few buckets."""

    bounds_s: Sequence[float]
    counts: Sequence[int]
    """Durations up to each bound, then of all."""
    sum_s: float


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The process that makes the results."""

    virtual_bytes: int
    resident_bytes: int
    started_s: float
    """Unix time."""
    cpu_s: float
    open_fds: int
    max_fds: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    budget_s: float
    count: int
    misses_by_cause: Mapping[str, int]
    latency: Durations
    stages: Mapping[str, Durations]
    health: Health
    process: ProcessStatus


def take_snapshot(latency: LatencyLog, health: Health) -> Snapshot:
    """Return the state of the run and of this process."""
    budget_s = latency.budget_ms / 1e3
    return Snapshot(
        budget_s,
        latency.count,
        dict(latency.misses_by_cause),
        _summarise(latency.total, sorted({*LATENCY_BOUNDS_S, budget_s})),
        {name: _summarise(stage, STAGE_BOUNDS_S) for name, stage in latency.stages.items()},
        health,
        _read_process(),
    )


def _summarise(histogram: Histogram, bounds_s: Sequence[float]) -> Durations:
    bounds_us = [*(bound * 1e6 for bound in bounds_s), math.inf]
    return Durations(bounds_s, histogram.counts_up_to(bounds_us), histogram.sum_us / 1e6)


def _read_process() -> ProcessStatus:
    process = psutil.Process()
    with process.oneshot():
        memory, times = process.memory_info(), process.cpu_times()
        return ProcessStatus(
            memory.vms,
            memory.rss,
            process.create_time(),
            times.user + times.system,
            process.num_fds(),
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )
