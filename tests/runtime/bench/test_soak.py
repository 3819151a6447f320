"""The soak log, on a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from emotion_edge.runtime.bench import soak
from emotion_edge.runtime.bench.soak import Sample, SoakLog, make_sampler
from emotion_edge.runtime.clock import FakeClock

SECOND = 1_000_000_000
PRELOADED_BYTES = 100_000_000


def log_of(samples: Iterator[Sample], seconds: float) -> SoakLog:
    """Return a log with a full table."""
    log = SoakLog(seconds, PRELOADED_BYTES, FakeClock(5 * SECOND), lambda: next(samples))
    log.run()
    return log


def test_growth_after_the_warm_up() -> None:
    """The warm-up of a tenth does not count, nor does the memory of preloaded media."""
    figures = log_of(
        ((150.0 + (0 if n < 20 else 100 + n / 10), 12.0 + (n > 200), 9.0) for n in count()), 200
    ).describe(lost_estimates=3)
    # 20 s of warm-up; then a tenth of 240 samples each, whose medians lie at 31.5 and 247.5 s.
    first, last = 150 + 3.15, 150 + 24.75
    assert figures["warm_up_s"] == 20.0
    assert figures["rss_growth_percent"] == pytest.approx(100 * (last / first - 1), abs=1e-3)
    assert figures["threads_growth"] == 1
    assert figures["fds_growth"] == 0
    assert figures["lost_estimates"] == 3
    assert figures["t_s"][:3] == [0.0, 1.0, 2.0]
    assert figures["rss_mb"][0] == 50.0
    assert figures["threads"][0] == 12


def test_stall_costs_samples() -> None:
    """Missed samples are not taken later: a burst would count one moment many times."""
    clock = FakeClock(5 * SECOND)
    numbers = count()

    def sample() -> Sample:
        if next(numbers) == 2:
            clock.advance(10 * SECOND + SECOND // 2)
        return 150.0, 12.0, 9.0

    log = SoakLog(20.0, PRELOADED_BYTES, clock, sample)
    log.run()
    assert log.describe(0)["t_s"][:5] == [0.0, 1.0, 12.5, 13.0, 14.0]


def test_no_growth() -> None:
    figures = log_of(((150.0, 12.0, 9.0) for _ in count()), 30).describe(0)
    growth = [figures[name] for name in ("rss_growth_percent", "threads_growth", "fds_growth")]
    assert growth == [0.0, 0, 0]


def test_single_sample() -> None:
    """A run of less than a second has figures."""
    log = SoakLog(100.0, 0, FakeClock(), lambda: (1.0, 2.0, 3.0))
    log._stop.set()
    log.run()
    figures = log.describe(0)
    assert figures["rss_mb"] == [1.0]
    assert figures["rss_growth_percent"] == 0.0


def test_long_runs_are_decimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the file is bounded."""
    monkeypatch.setattr(soak, "MAX_POINTS", 50)
    figures = log_of(((150.0, 12.0, 9.0) for _ in count()), 100).describe(0)
    assert len(figures["t_s"]) == len(figures["rss_mb"]) == 40
    assert figures["t_s"][:2] == [0.0, 4.0]


def test_this_process() -> None:
    """The readings have a plausible magnitude."""
    memory_mb, threads, files = make_sampler()()
    assert 10 < memory_mb < 10_000
    assert 1 <= threads < 1000
    assert 1 <= files < 10_000
