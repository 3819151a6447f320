"""Calm output: an exponential mean over time of the fused probabilities."""

from __future__ import annotations

import math

from ...engines.estimator import ClassProbabilities


class Smoother:
    """`time_constant_s` 0 passes everything through."""

    RESET_S = 2.0
    """After this long without anything to see or hear, the past is another person's."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._mean: ClassProbabilities | None = None
        self._last_ns = 0

    def update(self, t_ns: int, probabilities: ClassProbabilities) -> ClassProbabilities:
        """The mean up to `t_ns`, which must not go back."""
        elapsed = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._mean is None or elapsed > self.RESET_S * 1e9 or self._time_constant_ns <= 0:
            self._mean = list(probabilities)
        else:
            keep = math.exp(-max(0, elapsed) / self._time_constant_ns)
            self._mean = [
                keep * old + (1 - keep) * new
                for old, new in zip(self._mean, probabilities, strict=True)
            ]
        return self._mean
