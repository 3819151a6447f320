"""Soak log: memory, threads and open files of this process, once a second, in fixed memory.

In: this process. Out: the samples, and the growth of each since the warm-up.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ..clock import Clock, find_next_tick_ns
from ..service import run_in_background

PERIOD_NS = 1_000_000_000
MAX_WARM_UP_S = 60.0
"""The warm-up is a tenth of the run, at most this long: late imports are done by then."""
SHARE = 10
"""Growth is from the median of the first tenth after the warm-up to the median of the last."""
MAX_POINTS = 2000
_JOIN_TIMEOUT_S = 5.0
_MB = 1e6

Sample = tuple[float, float, float]
"""Resident memory in MB, threads, open files."""


class SoakLog:
    """A thread that takes the samples, as a context manager."""

    def __init__(
        self,
        seconds: float,
        preloaded_bytes: int,
        clock: Clock,
        sample: Callable[[], Sample] | None = None,
    ) -> None:
        """`preloaded_bytes` of media are subtracted: they would hide the growth."""
        self._seconds = seconds
        self._preloaded_mb = preloaded_bytes / _MB
        self._clock = clock
        self._sample = sample or make_sampler()
        # Written, so that its pages exist: they would look like growth later on.
        self._table = np.full((math.ceil(seconds) + 60, 4), np.nan)
        self._count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak", daemon=True)

    def run(self) -> None:
        """Take samples until stopped or until the table is full."""
        begun_ns = due_ns = self._clock.now_ns()
        while self._count < len(self._table):
            memory_mb, threads, files = self._sample()
            t_s = (self._clock.now_ns() - begun_ns) / 1e9
            self._table[self._count] = t_s, memory_mb - self._preloaded_mb, threads, files
            self._count += 1
            due_ns = find_next_tick_ns(due_ns, PERIOD_NS, self._clock.now_ns())
            if self._clock.sleep_until_ns(due_ns, self._stop):
                break

    def describe(self, lost_estimates: int) -> dict[str, Any]:
        """Return the entry of the JSON file. It needs at least one sample."""
        table = self._table[: self._count]
        warm_up_s = min(MAX_WARM_UP_S, self._seconds / 10)
        steady = table[table[:, 0] >= warm_up_s]
        if not len(steady):
            steady = table
        step = -(-len(table) // MAX_POINTS)
        t_s, memory_mb, threads, files = np.round(table[::step], 3).T.tolist()
        first, last = _find_medians(steady[:, 1:])
        return {
            "warm_up_s": warm_up_s,
            "rss_growth_percent": round(100 * (last[0] / max(first[0], 1e-9) - 1), 3),
            "threads_growth": round(last[1] - first[1]),
            "fds_growth": round(last[2] - first[2]),
            "lost_estimates": lost_estimates,
            "t_s": t_s,
            "rss_mb": memory_mb,
            "threads": [int(count) for count in threads],
            "fds": [int(count) for count in files],
        }

    def _run(self) -> None:
        run_in_background()
        self.run()

    def __enter__(self) -> SoakLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_TIMEOUT_S)


def make_sampler() -> Callable[[], Sample]:
    """Return a function that reads memory, threads and open files of this process."""
    process = psutil.Process()

    def sample() -> Sample:
        with process.oneshot():
            memory_mb = process.memory_info().rss / _MB
            return memory_mb, float(process.num_threads()), float(process.num_fds())

    return sample


def _find_medians(samples: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return each column's median over the first and over the last tenth."""
    tenth = max(1, len(samples) // SHARE)
    return (
        np.median(samples[:tenth], axis=0).tolist(),
        np.median(samples[-tenth:], axis=0).tolist(),
    )
