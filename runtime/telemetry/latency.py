"""The latency of results: percentiles of the last seconds and of the run, misses by cause.

In: the latency of each result, in all and by stage. Out: percentiles and counts, for any thread, in
memory that does not grow.

The histograms are HdrHistograms (Gil Tene, https://hdrhistogram.github.io/HdrHistogram/): buckets
of equal width up to 128 us, then 64 to each doubling, so that no bucket is wider than 1/64 of its
values.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from operator import itemgetter

import numpy as np

STAGES = ("wait", "sync", "preprocess", "face", "voice", "fusion", "publish")
"""The stages of a frame, in their order. "publish" begins when the result is ready, so it is no
part of that result's latency; the next frame may have to wait for it."""
RECENT_NS = 10_000_000_000
"""How long each of the two recent histograms is filled."""

read_stages = itemgetter(*STAGES)
"""Return a result's `stages_us` as a tuple in the order of `STAGES`."""


class LatencyLog:
    """Histograms and budget misses of a run. One thread adds; any thread may read."""

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self.count = 0
        self.misses = 0
        self.misses_by_cause = dict.fromkeys(STAGES, 0)
        self.total = Histogram()
        """Capture to result, since the start."""
        self.stages: Mapping[str, Histogram] = {name: Histogram() for name in STAGES}
        """Since the start, over the results in which the stage did some work."""
        self._stage_histograms = tuple(self.stages.values())
        self._budget_us = budget_ms * 1e3
        self._recent = Histogram()
        self._begun_ns = -(1 << 62)
        self._before = Histogram()
        self._windows = ((self._begun_ns, self._recent), (self._begun_ns, self._before))

    def add(
        self,
        latency_us: float,
        stages_us: Mapping[str, float],
        now_ns: int,
        held_up_us: float = 0.0,
    ) -> str | None:
        """Count one result, published by `now_ns`. Return the stage that caused a miss, else None.

        A stage of 0 us did no work. "publish" is this result's own. `held_up_us` is the part of
        "wait" during which the sinks published the result before.
        """
        if not 0 <= now_ns - self._begun_ns < RECENT_NS:
            self._rotate_histograms(now_ns)
        self.count += 1
        self.total.record(latency_us)
        self._recent.record(latency_us)
        took_us = read_stages(stages_us)
        for histogram, us in zip(self._stage_histograms, took_us, strict=True):
            if us:
                histogram.record(us)
        if latency_us <= self._budget_us:
            return None
        cause = self._find_cause(took_us, held_up_us)
        self.misses += 1
        self.misses_by_cause[cause] += 1
        return cause

    def recent(self, now_ns: int) -> Histogram:
        """Return the latencies of the last 10 to 20 s before `now_ns`, as a copy."""
        merged = Histogram()
        for begun_ns, histogram in self._windows:
            if now_ns - begun_ns < 2 * RECENT_NS:
                merged.add(histogram)
        return merged

    def recent_percentiles_ms(self, now_ns: int, *ranks: float) -> list[float]:
        """Return percentiles of `recent`, zeros when it is empty. Rank 100 is the maximum."""
        return [us / 1e3 for us in self.recent(now_ns).percentiles(*ranks)]

    def _rotate_histograms(self, now_ns: int) -> None:
        """Empty the older of the two recent histograms and start filling it.

        A concurrent reader misses that half, or sees its first new values.
        """
        self._before.clear()
        self._recent, self._before = self._before, self._recent
        self._windows = ((now_ns, self._recent), (self._begun_ns, self._before))
        self._begun_ns = now_ns

    def _find_cause(self, took_us: tuple[float, ...], held_up_us: float) -> str:
        """Return the stage that exceeded its own median most.

        Where the medians alone exceed the budget, it is the longest stage. Where the frame mostly
        waited for the publication of the result before, it is "publish".
        """
        took = np.array(took_us)
        typical = np.array([histogram.percentiles(50)[0] for histogram in self._stage_histograms])
        beyond = took - typical
        publish = len(STAGES) - 1
        usual_us = float(typical[:publish][took[:publish] > 0].sum())
        at_fault = took if usual_us > self._budget_us else beyond
        cause = STAGES[int(at_fault[:publish].argmax())]
        if cause == "wait" and held_up_us > took_us[0] / 2:
            return "publish"
        return cause


LIMIT_US = 60_000_000
"""Longer durations are counted in one last bucket."""
_OCTAVE_BITS = 6
"""Log2 of the number of buckets to each doubling."""


def _index(whole_us: int) -> int:
    """Return the index of the bucket of a value below the limit."""
    shift = max(0, whole_us.bit_length() - _OCTAVE_BITS - 1)
    return (shift << _OCTAVE_BITS) + (whole_us >> shift)


_LAST = _index(LIMIT_US - 1) + 1


def _lower_us(index: int) -> int:
    """Return the smallest value of a bucket; the inverse of `_index`."""
    shift = max(0, (index >> _OCTAVE_BITS) - 1)
    return (index - (shift << _OCTAVE_BITS)) << shift


_BOUNDS_US = np.array([*(_lower_us(index) for index in range(_LAST)), LIMIT_US, math.inf])
"""The lower bounds of the buckets, and the upper bound of the last."""


class Histogram:
    """Counts of durations. One thread records; any thread may read at any moment.

    A reader sums the counts once and derives everything from the sums. A concurrent recording is in
    them or is not: a count is a machine word, which is never half written. `sum_us` and `max_us`
    may be one value ahead of the counts.
    """

    __slots__ = ("_counts", "_view", "max_us", "sum_us")

    def __init__(self) -> None:
        # Incrementing an element of a Python array is three times faster than of NumPy's.
        self._counts = array("Q", bytes(8 * (_LAST + 1)))
        self._view = np.frombuffer(self._counts, np.uint64)
        self.sum_us = 0.0
        self.max_us = 0.0
        """Exact, above the limit too."""

    def record(self, us: float) -> None:
        """Count one duration. Negative values and NaN count as 0."""
        if 0.0 <= us < LIMIT_US:
            at = int(us)  # `_index`, inlined
            shift = at.bit_length() - 7
            if shift > 0:
                at = (shift << 6) + (at >> shift)
        elif us >= LIMIT_US:
            at = _LAST
        else:
            at, us = 0, 0.0
        self.sum_us += us
        if us > self.max_us:  # noqa: PLR1730  a call to max() would cost a third of all this
            self.max_us = us
        self._counts[at] += 1

    @property
    def count(self) -> int:
        return int(self._view.sum())

    def percentiles(self, *ranks: float) -> list[float]:
        """Return nearest-rank percentiles in us: never below the true value, and above it by 1/64
        or 1 us at most. Rank 100 is exact. Zeros for an empty histogram."""
        totals = self._view.cumsum()
        count = int(totals[-1])
        if not count:
            return [0.0] * len(ranks)
        wanted = [min(max(math.ceil(rank * count / 100), 1), count) for rank in ranks]
        buckets = totals.searchsorted(wanted)
        # The maximum bounds its bucket, unless another thread has cleared it meanwhile.
        return [
            min(float(_BOUNDS_US[at + 1]), max(self.max_us, float(_BOUNDS_US[at])))
            for at in buckets
        ]

    def counts_up_to(self, bounds_us: Sequence[float]) -> list[int]:
        """Return the number of values up to each bound. Values within 1/64 below a bound may be
        left out; `math.inf` counts all."""
        totals = self._view.cumsum()
        buckets = _BOUNDS_US[1:].searchsorted(bounds_us, side="right")
        return [int(totals[number - 1]) if number else 0 for number in buckets]

    def add(self, other: Histogram) -> None:
        """Add the counts of `other`."""
        self._view += other._view
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def clear(self) -> None:
        self._view.fill(0)
        self.sum_us = self.max_us = 0.0
