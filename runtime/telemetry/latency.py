"""How late results are: percentiles of the last seconds and since the start, misses by cause.

In: what each result took, in all and by stage. Out: figures, on demand and for any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

import numpy as np

from .histogram import Histogram

STAGES = ("wait", "sync", "preprocess", "face", "voice", "fusion", "publish")
"""In the order in which a frame goes through them. "publish" begins when the result is ready, so it
is no part of that result's latency; the next frame may have to wait for it."""
RECENT_NS = 10_000_000_000
"""How long each of the two histograms of what is recent is filled."""

read_stages = itemgetter(*STAGES)
"""A result's `stages_us` as a tuple in the order of `STAGES`."""


class LatencyLog:
    """Histograms of a run, and the misses of its budget. One thread adds; any thread may read."""

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self.count = 0
        self.misses = 0
        self.misses_by_cause = dict.fromkeys(STAGES, 0)
        self.total = Histogram()
        """Capture to result, since the start."""
        self.stages: Mapping[str, Histogram] = {name: Histogram() for name in STAGES}
        """Since the start, of the results for which the stage had something to do."""
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
        """Count one result that was published by `now_ns`. The stage at fault when it was over the
        budget, else None. A stage of 0 us had nothing to do; "publish" is this result's own.
        `held_up_us` is the part of its "wait" in which the sinks took the result before."""
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
        """Capture to result over the last 10 to 20 s before `now_ns`; the caller's own copy."""
        merged = Histogram()
        for begun_ns, histogram in self._windows:
            if now_ns - begun_ns < 2 * RECENT_NS:
                merged.add(histogram)
        return merged

    def recent_percentiles_ms(self, now_ns: int, *ranks: float) -> list[float]:
        """Of `recent`; 0 when there is nothing recent. Rank 100 is the largest."""
        return [us / 1e3 for us in self.recent(now_ns).percentiles(*ranks)]

    def percentiles_ms(self, *ranks: float) -> list[float]:
        """Of capture to result since the start; 0 before the first result."""
        return [us / 1e3 for us in self.total.percentiles(*ranks)]

    def stage_percentiles_ms(self, *ranks: float) -> dict[str, list[float]]:
        """Since the start, of the stages that ever had something to do."""
        return {
            name: [us / 1e3 for us in histogram.percentiles(*ranks)]
            for name, histogram in self.stages.items()
            if histogram.count
        }

    def _rotate_histograms(self, now_ns: int) -> None:
        """The older half of what is recent is emptied and filled anew. A reader who is at it just
        now misses that half, or sees the first of what is new in it."""
        self._before.clear()
        self._recent, self._before = self._before, self._recent
        self._windows = ((now_ns, self._recent), (self._begun_ns, self._before))
        self._begun_ns = now_ns

    def _find_cause(self, took_us: tuple[float, ...], held_up_us: float) -> str:
        """The stage that took longest beyond its own median; where the medians alone are over the
        budget nothing is out of the ordinary, and it is the longest stage.

        A frame that mostly waited for the result before to be published is put down to that.
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
