"""Clocks, passed to whatever needs the time, so that tests can control it."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds."""

    def now_ns(self) -> int: ...

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        """Wait until `t_ns` or until `stop` is set. Return whether `stop` is set."""


def find_next_tick_ns(due_ns: int, period_ns: int, now_ns: int) -> int:
    """Return the next tick of the grid after the one at `due_ns`. After a stall it is the first one
    not in the past: missed ticks are skipped."""
    late = -((due_ns - now_ns) // period_ns)  # in periods, rounded up
    return due_ns + period_ns * max(1, late)


class MonotonicClock:
    """CLOCK_MONOTONIC, which capture drivers stamp frames with."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        return stop.wait(max(0, t_ns - self.now_ns()) / 1e9)


class FakeClock:
    """A clock for tests. It moves by `advance`, and a sleep moves it to its end at once."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int) -> None:
        self._now_ns += ns

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        self._now_ns = max(self._now_ns, t_ns)
        return stop.is_set()
