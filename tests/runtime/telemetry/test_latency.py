"""Latency: the histogram against NumPy on the plain values; recent percentiles; miss causes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.telemetry.latency import (
    LIMIT_US,
    RECENT_NS,
    STAGES,
    Histogram,
    LatencyLog,
)

from .concurrency import read_while_writing

SECOND = 1_000_000_000
PERIOD_NS = SECOND // 30
USUAL_US = {
    "wait": 1000.0,
    "sync": 50.0,
    "preprocess": 800.0,
    "face": 6000.0,
    "voice": 2000.0,
    "fusion": 300.0,
    "publish": 100.0,
}
DURATIONS_US = st.one_of(
    st.floats(0, 300), st.floats(0, 200_000), st.floats(0, LIMIT_US, exclude_max=True)
)
EXACT_RANKS = st.integers(0, 64).map(lambda number: number * 100 / 64)
"""Ranks whose position NumPy computes without rounding, so that both choose the same value."""


def record_all(values_us: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values_us:
        histogram.record(value)
    return histogram


def add(
    log: LatencyLog,
    now_ns: int = 0,
    stages_us: Mapping[str, float] = USUAL_US,
    /,
    **changed_us: float,
) -> str | None:
    """Add a usual result with some stages changed. `held_up` is the part of its wait during which
    the result before was published."""
    held_up_us = changed_us.pop("held_up", 0.0)
    stages = {**stages_us, **changed_us}
    return log.add(sum(stages.values()) - stages["publish"], stages, now_ns, held_up_us)


def make_log(number: int = 100, **changed_us: float) -> LatencyLog:
    log = LatencyLog(45.0)
    for index in range(number):
        add(log, index * PERIOD_NS, **changed_us)
    return log


# Histogram


@given(st.lists(DURATIONS_US, min_size=1, max_size=60), st.lists(EXACT_RANKS, max_size=5))
def test_percentiles_by_nearest_rank(values_us: list[float], ranks: list[float]) -> None:
    """Never below the true value, and above it by 1/64 or 1 us at most; the maximum is exact."""
    histogram = record_all(values_us)
    want = np.percentile(values_us, ranks, method="inverted_cdf")
    got = np.array(histogram.percentiles(*ranks))
    assert (got >= want).all()
    assert (got <= want + np.maximum(want / 64, 1)).all()
    assert histogram.percentiles(100) == [histogram.max_us] == [max(values_us)]
    assert histogram.sum_us == pytest.approx(sum(values_us))


@given(st.lists(st.floats(), max_size=40))
def test_every_value_is_counted(values_us: list[float]) -> None:
    """Values beyond the limit, negative, infinite and NaN included."""
    histogram = record_all(values_us)
    assert histogram.count == len(values_us)
    assert histogram.counts_up_to([math.inf]) == [len(values_us)]


@given(st.lists(DURATIONS_US, max_size=30), st.lists(DURATIONS_US, max_size=30))
def test_add_equals_recording(first_us: list[float], second_us: list[float]) -> None:
    """The sum of two histograms equals one histogram of all values."""
    merged = record_all(first_us)
    merged.add(record_all(second_us))
    want = record_all([*first_us, *second_us])
    bounds_us = [10.0**power for power in range(9)]
    ranks = (0, 25, 50, 90, 99, 100)
    assert merged.counts_up_to(bounds_us) == want.counts_up_to(bounds_us)
    assert merged.percentiles(*ranks) == want.percentiles(*ranks)
    assert merged.sum_us == pytest.approx(want.sum_us)


@given(st.lists(DURATIONS_US, max_size=50), st.floats(1, LIMIT_US))
def test_counts_up_to_a_bound(values_us: list[float], bound_us: float) -> None:
    """No value above the bound, and every value clearly below it."""
    (counted,) = record_all(values_us).counts_up_to([bound_us])
    assert counted <= sum(value <= bound_us for value in values_us)
    assert counted >= sum(value <= bound_us - max(bound_us / 64, 1) for value in values_us)


def test_every_bucket_is_narrow_enough() -> None:
    """Whole microseconds at and around each doubling, over the whole range."""
    edges = [2**power + step for power in range(1, 26) for step in (-1, 0, 1)]
    for value in [*edges, LIMIT_US - 1]:
        histogram = record_all([value, LIMIT_US - 0.5])
        (got,) = histogram.percentiles(50)
        assert value <= got <= value + max(value / 64, 1)


def test_values_beyond_the_limit() -> None:
    histogram = record_all([1000.0, 2.0 * LIMIT_US, 3.0 * LIMIT_US])
    assert histogram.percentiles(1, 100) == [1008.0, 3.0 * LIMIT_US]
    assert histogram.counts_up_to([LIMIT_US, math.inf]) == [1, 3]


def test_empty_histogram() -> None:
    histogram = Histogram()
    assert histogram.percentiles(50, 99) == [0.0, 0.0]
    assert histogram.percentiles() == []
    assert histogram.counts_up_to([1.0, math.inf]) == [0, 0]
    assert histogram.max_us == 0.0


def test_clear() -> None:
    histogram = record_all([5.0, 50_000.0])
    histogram.clear()
    assert (histogram.count, histogram.sum_us, histogram.max_us) == (0, 0.0, 0.0)
    histogram.record(7.0)
    assert histogram.percentiles(100) == [7.0]


def test_clear_during_a_read() -> None:
    """A reader that has the counts, but finds the maximum cleared, stays within the bucket."""
    histogram = record_all([50_000.0])
    histogram.max_us = 0.0
    (got,) = histogram.percentiles(99)
    assert 50_000 * 63 / 64 <= got <= 50_000 * 65 / 64


def test_memory_does_not_grow() -> None:
    histogram = Histogram()
    view = histogram._view
    for value in range(10_000):
        histogram.record(value * 10.0)
    assert histogram._view is view
    assert view.nbytes < 11_000


# Latency log


@given(st.lists(st.floats(0, 200_000), max_size=50))
def test_counts_and_misses(latencies_us: list[float]) -> None:
    """Every result is counted; every result over the budget is a miss with a cause."""
    log = LatencyLog(45.0)
    for index, value in enumerate(latencies_us):
        log.add(value, dict.fromkeys(STAGES, 0.0) | {"face": value}, index * PERIOD_NS)
    assert log.count == log.total.count == len(latencies_us)
    assert log.misses == sum(value > 45_000 for value in latencies_us)
    assert sum(log.misses_by_cause.values()) == log.misses
    assert set(log.misses_by_cause) == set(STAGES)


def test_latency_equal_to_the_budget_is_no_miss() -> None:
    log = LatencyLog(45.0)
    assert log.add(45_000, USUAL_US, 0) is None
    assert log.add(45_001, USUAL_US, 1) is not None
    assert log.misses == 1


def test_percentiles_since_the_start() -> None:
    """In ms, to 1/64; zeros before the first result."""
    log = LatencyLog(45.0)
    assert log.total.percentiles(50, 99) == log.recent_percentiles_ms(5, 50, 99) == [0.0, 0.0]
    assert not any(histogram.count for histogram in log.stages.values())
    for latency_ms in range(1, 101):
        log.add(latency_ms * 1e3, USUAL_US, 0)
    assert log.total.percentiles(50, 99) == pytest.approx([50e3, 99e3], rel=1 / 64)
    assert log.total.percentiles(100) == [100e3]


def test_idle_stages_are_not_recorded() -> None:
    """A frame without a face does not make the face network look fast."""
    log = make_log(10)
    for _ in range(90):
        add(log, face=0.0, voice=0.0)
    assert log.stages["face"].percentiles(1, 99) == pytest.approx([6e3, 6e3], rel=1 / 64)
    assert log.stages["face"].count == 10
    assert log.stages["fusion"].count == 100
    assert make_log(5, voice=0.0).stages["voice"].count == 0


def test_recent_percentiles_forget() -> None:
    """A slow second leaves the recent percentiles after 20 s, and those of the run never."""
    log = LatencyLog(45.0)
    for index in range(30 * 40):
        slow = 30 * 10 <= index < 30 * 11
        add(log, index * PERIOD_NS, face=60_000.0 if slow else 6000.0)
        now_s = index / 30
        (largest,) = log.recent_percentiles_ms(index * PERIOD_NS, 100)
        if 10.1 < now_s < 20:
            assert largest > 60
        if now_s >= 31:
            assert largest < 15
    assert log.total.percentiles(100)[0] > 60e3
    assert log.misses == 30


@given(st.lists(st.integers(0, 15 * SECOND), min_size=1, max_size=40))
def test_recent_holds_the_last_10_to_20_s(steps_ns: list[int]) -> None:
    """Every result of the last 10 s, and none older than 20 s, whatever the pauses."""
    log, now_ns, added_ns = LatencyLog(1e6), 0, []
    for number, step_ns in enumerate(steps_ns, 1):
        now_ns += step_ns
        log.add(float(number), USUAL_US, now_ns)
        added_ns.append(now_ns)
        count = log.recent(now_ns).count
        assert count >= sum(now_ns - t_ns < RECENT_NS for t_ns in added_ns)
        assert count <= sum(now_ns - t_ns < 2 * RECENT_NS for t_ns in added_ns)
    assert log.recent(now_ns + 2 * RECENT_NS).count == 0
    assert log.recent_percentiles_ms(now_ns + 2 * RECENT_NS, 50) == [0.0]


@pytest.mark.parametrize("jump_ns", [-1000 * SECOND, 1000 * SECOND])
def test_clock_jump(jump_ns: int) -> None:
    """Results after the jump are recent, and expire."""
    log = make_log(30)
    start_ns = 30 * PERIOD_NS + jump_ns
    for index in range(30 * 25):
        add(log, start_ns + index * PERIOD_NS, face=7000.0)
    now_ns = start_ns + 25 * SECOND
    assert 30 * 9 <= log.recent(now_ns).count <= 30 * 20
    assert log.count == 30 * 26


# Causes of misses


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_cause_is_the_unusual_stage(stage: str) -> None:
    """Not the longest stage, but the one that exceeded its own median most."""
    log = make_log(face=40_000.0)
    late_us = {**USUAL_US, "face": 40_000.0}
    late_us[stage] += 10_000.0
    assert add(log, 0, late_us) == stage
    assert log.misses_by_cause == dict.fromkeys(STAGES, 0) | {stage: 1}


def test_cause_of_permanent_misses() -> None:
    """Where the medians exceed the budget, it is the longest stage, not the noisiest."""
    log = make_log(face=60_000.0)
    assert log.misses_by_cause["face"] == 100
    assert add(log, face=60_000.0, sync=9000.0) == "face"


def test_cause_on_the_first_result() -> None:
    """Without history it is the longest stage."""
    assert add(LatencyLog(45.0), voice=90_000.0) == "voice"


def test_cause_is_the_slow_sink() -> None:
    """A frame that mostly waited for the publication of the result before. Its own publication
    does not count."""
    assert add(make_log(), wait=60_000.0, held_up=58_000.0) == "publish"
    assert add(make_log(), wait=60_000.0, held_up=200.0) == "wait"
    assert add(make_log(), wait=60_000.0, publish=58_000.0) == "wait"
    assert add(make_log(), face=60_000.0, held_up=1000.0) == "face"


def test_idle_stage_is_no_cause() -> None:
    """Its median does not count for a frame in which it did not run."""
    log = make_log(face=30_000.0, voice=20_000.0)
    assert add(log, face=30_000.0, voice=0.0, sync=20_000.0) == "sync"


def test_read_while_writing() -> None:
    """Another thread always reads consistent sums."""
    log = LatencyLog(45.0)
    seen: list[tuple[int, float]] = []

    def read() -> None:
        counts = log.total.counts_up_to([45_000, math.inf])
        assert counts[0] <= counts[1]
        seen.append((counts[1], log.recent_percentiles_ms(log.count * SECOND, 99)[0]))

    def write() -> None:
        for index in range(3000):
            add(log, index * SECOND)

    read_while_writing(read, write)
    counted = [count for count, _ in seen]
    assert counted == sorted(counted)
    usual_ms = (sum(USUAL_US.values()) - USUAL_US["publish"]) / 1e3
    for _, p99_ms in seen:
        assert p99_ms == 0 or p99_ms == pytest.approx(usual_ms, rel=1 / 32)
    assert log.total.count == 3000
