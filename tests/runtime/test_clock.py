"""The clocks, and the grid of ticks."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.clock import FakeClock, MonotonicClock, find_next_tick_ns


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10**12)), max_size=30), st.integers(0, 10**12)
)
def test_fake_clock_never_goes_back(steps: list[tuple[bool, int]], start_ns: int) -> None:
    """A sleep ends exactly at its time, one into the past at once; advances add up."""
    clock = FakeClock(start_ns)
    stop = threading.Event()
    for sleeps, ns in steps:
        before = clock.now_ns()
        if sleeps:
            assert not clock.sleep_until_ns(ns, stop)
            assert clock.now_ns() == max(before, ns)
        else:
            clock.advance(ns)
            assert clock.now_ns() == before + ns


def test_stopped_fake_sleep() -> None:
    """It returns that it was stopped, as the real one does."""
    stop = threading.Event()
    stop.set()
    assert FakeClock().sleep_until_ns(5, stop)


def test_monotonic_clock() -> None:
    """It is CLOCK_MONOTONIC. `stop` ends a long sleep; a sleep into the past returns at once."""
    clock = MonotonicClock()
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert before_ns <= clock.now_ns() <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    stop = threading.Event()
    assert not clock.sleep_until_ns(clock.now_ns() - 1, stop)
    due_ns = clock.now_ns() + 2_000_000
    assert not clock.sleep_until_ns(due_ns, stop)
    assert clock.now_ns() >= due_ns - 100_000
    stop.set()
    assert clock.sleep_until_ns(clock.now_ns() + 3_600_000_000_000, stop)


@given(st.integers(0, 10**12), st.integers(-(10**12), 10**12), st.integers(1, 10**10))
def test_next_tick(due_ns: int, late_ns: int, period_ns: int) -> None:
    """The next tick is the first on the grid that is after the previous one and not in the past."""
    now_ns = due_ns + late_ns
    tick_ns = find_next_tick_ns(due_ns, period_ns, now_ns)
    assert (tick_ns - due_ns) % period_ns == 0
    assert tick_ns >= max(due_ns + period_ns, now_ns)
    assert tick_ns - period_ns < max(due_ns + period_ns, now_ns)
