"""Time as an object that is passed in, so that tests decide how it goes."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A clock in nanoseconds that never goes back."""

    def now_ns(self) -> int: ...

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        """Wait until `t_ns`, or until `stop` is set: True when it was."""


def find_next_tick_ns(due_ns: int, period_ns: int, now_ns: int) -> int:
    """The tick after the one at `due_ns`. After a stall it is the first one that is not in the
    past: what was missed is not made up for, and the grid stays as it is."""
    late = -((due_ns - now_ns) // period_ns)  # in periods, rounded up
    return due_ns + period_ns * max(1, late)


class MonotonicClock:
    """The machine's own CLOCK_MONOTONIC, the one every capture driver stamps with."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        return stop.wait(max(0, t_ns - self.now_ns()) / 1e9)


class FakeClock:
    """Moves only when told; a sleep moves it at once to where the sleeper wants to be."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int) -> None:
        self._now_ns += ns

    def sleep_until_ns(self, t_ns: int, stop: threading.Event) -> bool:
        self._now_ns = max(self._now_ns, t_ns)
        return stop.is_set()
