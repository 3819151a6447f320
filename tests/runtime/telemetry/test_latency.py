"""The latency log: what is recent, what was missed and why."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.telemetry.latency import RECENT_NS, STAGES, LatencyLog

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


def add(
    log: LatencyLog,
    now_ns: int = 0,
    stages_us: Mapping[str, float] = USUAL_US,
    /,
    **changed_us: float,
) -> str | None:
    """A usual result but for the stages that are named. With `held_up`, that part of its wait was
    the result before being published."""
    held_up_us = changed_us.pop("held_up", 0.0)
    stages = {**stages_us, **changed_us}
    return log.add(sum(stages.values()) - stages["publish"], stages, now_ns, held_up_us)


def make_log(number: int = 100, **changed_us: float) -> LatencyLog:
    log = LatencyLog(45.0)
    for index in range(number):
        add(log, index * PERIOD_NS, **changed_us)
    return log


@given(st.lists(st.floats(0, 200_000), max_size=50))
def test_counts_and_misses(latencies_us: list[float]) -> None:
    """Every result counts, every one over the budget is a miss with a cause."""
    log = LatencyLog(45.0)
    for index, value in enumerate(latencies_us):
        log.add(value, dict.fromkeys(STAGES, 0.0) | {"face": value}, index * PERIOD_NS)
    assert log.count == log.total.count == len(latencies_us)
    assert log.misses == sum(value > 45_000 for value in latencies_us)
    assert sum(log.misses_by_cause.values()) == log.misses
    assert set(log.misses_by_cause) == set(STAGES)


def test_exactly_on_budget_is_no_miss() -> None:
    """45 ms are allowed."""
    log = LatencyLog(45.0)
    assert log.add(45_000, USUAL_US, 0) is None
    assert log.add(45_001, USUAL_US, 1) is not None
    assert log.misses == 1


def test_percentiles_since_the_start() -> None:
    """In ms, to 1/64; the largest is exact."""
    log = LatencyLog(45.0)
    for latency_ms in range(1, 101):
        log.add(latency_ms * 1e3, USUAL_US, 0)
    assert log.percentiles_ms(50, 99) == pytest.approx([50, 99], rel=1 / 64)
    assert log.percentiles_ms(100) == [100.0]


def test_no_result_yet() -> None:
    """Zeros."""
    log = LatencyLog(45.0)
    assert log.percentiles_ms(50, 99) == log.recent_percentiles_ms(5, 50, 99) == [0.0, 0.0]
    assert log.stage_percentiles_ms(50) == {}


def test_a_stage_without_work_is_not_recorded() -> None:
    """A picture without a face does not make the face network look fast."""
    log = make_log(10)
    for _ in range(90):
        add(log, face=0.0, voice=0.0)
    stages = log.stage_percentiles_ms(1, 99)
    assert stages["face"] == pytest.approx([6.0, 6.0], rel=1 / 64)
    assert log.stages["face"].count == 10
    assert log.stages["fusion"].count == 100
    assert "voice" not in make_log(5, voice=0.0).stage_percentiles_ms(50)


def test_recent_forgets() -> None:
    """A bad second is out of the recent figures after 20 s, and in those of the run for good."""
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
    assert log.percentiles_ms(100)[0] > 60
    assert log.misses == 30


@given(st.lists(st.integers(0, 15 * SECOND), min_size=1, max_size=40))
def test_recent_is_of_the_last_10_to_20_s(steps_ns: list[int]) -> None:
    """All of the last 10 s are in it, and nothing older than 20 s, whatever the pauses."""
    log, now_ns, added_ns = LatencyLog(1e6), 0, []
    for number, step_ns in enumerate(steps_ns, 1):
        now_ns += step_ns
        log.add(float(number), USUAL_US, now_ns)
        added_ns.append(now_ns)
        count = log.recent(now_ns).count
        assert count >= sum(now_ns - t_ns < RECENT_NS for t_ns in added_ns)
        assert count <= sum(now_ns - t_ns < 2 * RECENT_NS for t_ns in added_ns)


def test_recent_when_results_stop() -> None:
    """A run without pictures is not shown with the figures of old."""
    log = make_log(30)
    assert log.recent(5 * SECOND).count == 30
    assert log.recent(25 * SECOND).count == 0
    assert log.recent_percentiles_ms(25 * SECOND, 50) == [0.0]


@pytest.mark.parametrize("jump_ns", [-1000 * SECOND, 1000 * SECOND])
def test_a_clock_that_jumps(jump_ns: int) -> None:
    """What comes after is recent; nothing stays for ever."""
    log = make_log(30)
    start_ns = 30 * PERIOD_NS + jump_ns
    for index in range(30 * 25):
        add(log, start_ns + index * PERIOD_NS, face=7000.0)
    now_ns = start_ns + 25 * SECOND
    assert 30 * 9 <= log.recent(now_ns).count <= 30 * 20
    assert log.count == 30 * 26


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_cause_is_what_was_unusual(stage: str) -> None:
    """Not the longest stage: the one that took longest beyond its own median."""
    log = make_log(face=40_000.0)
    late_us = {**USUAL_US, "face": 40_000.0}
    late_us[stage] += 10_000.0
    assert add(log, 0, late_us) == stage
    assert log.misses_by_cause == dict.fromkeys(STAGES, 0) | {stage: 1}


def test_cause_where_everything_is_as_usual() -> None:
    """When the medians alone are over the budget it is the longest stage, not the noisiest."""
    log = make_log(face=60_000.0)
    assert log.misses_by_cause["face"] == 100
    assert add(log, face=60_000.0, sync=9000.0) == "face"


def test_cause_on_the_first_result() -> None:
    """Without any history it is the longest stage."""
    assert add(LatencyLog(45.0), voice=90_000.0) == "voice"


def test_cause_is_the_slow_sink() -> None:
    """A frame that mostly waited for the result before to be published is put down to that; how
    long its own result took to publish says nothing."""
    assert add(make_log(), wait=60_000.0, held_up=58_000.0) == "publish"
    assert add(make_log(), wait=60_000.0, held_up=200.0) == "wait"
    assert add(make_log(), wait=60_000.0, publish=58_000.0) == "wait"
    assert add(make_log(), face=60_000.0, held_up=1000.0) == "face"


def test_a_stage_that_did_not_run_is_no_cause() -> None:
    """Its usual time does not count for a picture that went without it."""
    log = make_log(face=30_000.0, voice=20_000.0)
    assert add(log, face=30_000.0, voice=0.0, sync=20_000.0) == "sync"


def test_read_while_it_is_written() -> None:
    """Another thread always sees sums that belong together."""
    log = LatencyLog(45.0)
    begun, done = threading.Event(), threading.Event()
    seen: list[tuple[int, float]] = []

    def read() -> None:
        while not done.is_set():
            now_ns = log.count * SECOND
            counts = log.total.counts_up_to([45_000, float("inf")])
            assert counts[0] <= counts[1]
            seen.append((counts[1], log.recent_percentiles_ms(now_ns, 99)[0]))
            begun.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        reader = threading.Thread(target=read)
        reader.start()
        begun.wait()
        for index in range(3000):
            add(log, index * SECOND)
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(before)
    counted = [count for count, _ in seen]
    assert counted == sorted(counted)
    usual_ms = (sum(USUAL_US.values()) - USUAL_US["publish"]) / 1e3
    for _, p99_ms in seen:
        assert p99_ms == 0 or p99_ms == pytest.approx(usual_ms, rel=1 / 32)
    assert log.total.count == 3000
