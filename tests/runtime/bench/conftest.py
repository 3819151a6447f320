"""Shared fixtures: simulated runs, their recordings, and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import Level
from emotion_edge.runtime.bench.recorder import Recorder, Recording
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.telemetry.latency import STAGES

from .made_reports import make_full_report, make_report

MS = 1_000_000
LEVELS = (Level("high", 64), Level("low", 48, camera_fps=15.0))


def make_runtime() -> Any:
    """Return the parts of a runtime that a recorder reads."""
    return SimpleNamespace(
        rate_limiter=None,
        level=LEVELS[0],
        levels=[SimpleNamespace(level=level) for level in LEVELS],
        latency=SimpleNamespace(misses_by_cause=dict.fromkeys(STAGES, 0)),
        dropped_frames=0,
    )


@pytest.fixture
def report() -> dict[str, Any]:
    """The report of a short steady run, without optional parts."""
    return make_report()


@pytest.fixture
def full_report() -> dict[str, Any]:
    """The report of a contended run with every part."""
    return make_full_report()


class Run:
    """A recorder and a simulated run."""

    def __init__(self, capacity: int = 1000) -> None:
        self.recorder = Recorder(capacity)
        self.runtime = make_runtime()
        self.recorder.attach(self.runtime)
        self.index = -1

    def arrive(self, t_ms: float) -> bool:
        """Let a frame arrive. Return whether the rate limiter accepts it."""
        self.index += 1
        return bool(self.runtime.rate_limiter.accepts(round(t_ms * MS)))

    def estimate(
        self, t_ms: float, latency_ms: float = 5.0, level: str = "high", **stages_ms: float
    ) -> None:
        stages = {name: stages_ms.get(name, 0.0) * 1e3 for name in STAGES}
        seen = {"happy": 1.0}
        face, voice = (seen if stages[name] else None for name in ("face", "voice"))
        self.recorder.publish(
            Estimate(
                round(t_ms * MS),
                self.index,
                None,
                0.0,
                {},
                {},
                face,
                voice,
                True,
                0,
                latency_ms * 1e3,
                stages,
                level,
            )
        )

    def frame(
        self, t_ms: float, latency_ms: float = 5.0, level: str = "high", **stages_ms: float
    ) -> None:
        assert self.arrive(t_ms)
        self.estimate(t_ms, latency_ms, level, **stages_ms)


def record(latencies_ms: Sequence[float], step_ms: float = 40.0) -> Recording:
    """Record one frame every `step_ms` after the warm-up."""
    run = Run()
    run.frame(0.0)
    for number, latency_ms in enumerate(latencies_ms):
        run.frame(1000 + number * step_ms, latency_ms, "high", face=latency_ms / 2)
    return run.recorder.finish(len(latencies_ms) * step_ms / 1e3)


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def make_run() -> Callable[[int], Run]:
    return Run


@pytest.fixture
def make_recording() -> Callable[..., Recording]:
    return record
