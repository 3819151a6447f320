"""Durations in, percentiles out, in memory that does not grow with what is recorded.

The buckets are those of Gil Tene's HdrHistogram (https://hdrhistogram.github.io/HdrHistogram/):
equally wide up to 128 us, then 64 to each doubling, so that no bucket is wider than 1/64 of what
is in it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np

LIMIT_US = 60_000_000
"""What took longer than this minute is counted in one last bucket."""
_OCTAVE_BITS = 6
"""Buckets to each doubling, as a power of two."""


def _index(whole_us: int) -> int:
    """Of the bucket for a value below the limit."""
    shift = max(0, whole_us.bit_length() - _OCTAVE_BITS - 1)
    return (shift << _OCTAVE_BITS) + (whole_us >> shift)


_LAST = _index(LIMIT_US - 1) + 1


def _lower_us(index: int) -> int:
    """The least value in a bucket; the inverse of `_index`."""
    shift = max(0, (index >> _OCTAVE_BITS) - 1)
    return (index - (shift << _OCTAVE_BITS)) << shift


_BOUNDS_US = np.array([*(_lower_us(index) for index in range(_LAST)), LIMIT_US, math.inf])
"""Where the buckets begin, and the end of the last."""


class Histogram:
    """Counts of durations. One thread records; any thread may read at any moment.

    A reader sums the counts up in one go, and all else it says follows from those sums. What is
    recorded meanwhile is in them or is not: counts are machine words, which are never half written.
    `sum_us` and `max_us` may be one value further than the counts.
    """

    __slots__ = ("_counts", "_view", "max_us", "sum_us")

    def __init__(self) -> None:
        # A Python array, because it is three times faster than NumPy's at counting one up.
        self._counts = array("Q", bytes(8 * (_LAST + 1)))
        self._view = np.frombuffer(self._counts, np.uint64)
        self.sum_us = 0.0
        self.max_us = 0.0
        """Exact, over the limit too."""

    def record(self, us: float) -> None:
        """Count one duration. Less than nothing, and no number at all, count as 0."""
        if 0.0 <= us < LIMIT_US:
            at = int(us)  # from here on `_index`, without the call
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
        """In us, by nearest rank: at least as much as `rank` % of the values, too much by 1/64 or
        1 us at most. Rank 100 is exact. Zeros when nothing was recorded."""
        totals = self._view.cumsum()
        count = int(totals[-1])
        if not count:
            return [0.0] * len(ranks)
        wanted = [min(max(math.ceil(rank * count / 100), 1), count) for rank in ranks]
        found = totals.searchsorted(wanted)
        # The largest value closes its bucket. One that has been cleared meanwhile closes none.
        return [
            min(float(_BOUNDS_US[at + 1]), max(self.max_us, float(_BOUNDS_US[at]))) for at in found
        ]

    def counts_up_to(self, bounds_us: Sequence[float]) -> list[int]:
        """How many values are at most each bound. Of values less than 1/64 under a bound some may
        be left out; `math.inf` counts all."""
        totals = self._view.cumsum()
        buckets = _BOUNDS_US[1:].searchsorted(bounds_us, side="right")
        return [int(totals[number - 1]) if number else 0 for number in buckets]

    def add(self, other: Histogram) -> None:
        """Count all that `other` has counted, too."""
        self._view += other._view
        self.sum_us += other.sum_us
        self.max_us = max(self.max_us, other.max_us)

    def clear(self) -> None:
        self._view.fill(0)
        self.sum_us = self.max_us = 0.0
