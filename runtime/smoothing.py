"""Calm output: an exponential mean over time of the fused probabilities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


class Smoother:
    """`time_constant_s` 0 passes everything through."""

    RESET_S = 2.0
    """After this long without anything to see or hear, the past is another person's."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._mean: Float64 | None = None
        self._last_ns = 0

    def update(self, t_ns: int, probabilities: Float64) -> Float64:
        """The mean up to `t_ns`, which must not go back."""
        elapsed = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._mean is None or elapsed > self.RESET_S * 1e9 or self._time_constant_ns <= 0:
            self._mean = probabilities.copy()
        else:
            keep = math.exp(-max(0, elapsed) / self._time_constant_ns)
            self._mean = keep * self._mean + (1 - keep) * probabilities
        return self._mean
