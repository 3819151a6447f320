"""How late results are: the newest figures in fixed memory, percentiles on demand."""

from __future__ import annotations

import numpy as np

from .messages import Float32


class LatencyLog:
    """The last `capacity` values of each stage and of the whole, and the misses of the budget."""

    def __init__(self, budget_ms: float, capacity: int = 4096) -> None:
        self.budget_ms = budget_ms
        self.count = 0
        self.misses = 0
        self._capacity = capacity
        self._total = np.zeros(capacity, np.float32)
        self._stages: dict[str, Float32] = {}

    def add(self, latency_us: float, stages_us: dict[str, float]) -> None:
        at = self.count % self._capacity
        self._total[at] = latency_us / 1e3
        for name, value in stages_us.items():
            if name not in self._stages:
                self._stages[name] = np.zeros(self._capacity, np.float32)
            self._stages[name][at] = value / 1e3
        self.count += 1
        self.misses += latency_us / 1e3 > self.budget_ms

    def percentiles_ms(self, *ranks: float) -> list[float]:
        """Of capture to result; 0 before the first result."""
        return self._rank(self._total, ranks)

    def stage_percentiles_ms(self, *ranks: float) -> dict[str, list[float]]:
        return {name: self._rank(values, ranks) for name, values in self._stages.items()}

    def _rank(self, values: Float32, ranks: tuple[float, ...]) -> list[float]:
        known = values[: min(self.count, self._capacity)]
        if not len(known):
            return [0.0] * len(ranks)
        return [float(v) for v in np.percentile(known, ranks)]
