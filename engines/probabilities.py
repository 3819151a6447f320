"""Class probabilities: calibration of logits, late fusion, smoothing over time.

Those of one moment are lists of floats, one for each label. NumPy would cost more than the
arithmetic on so few numbers, because a network's run leaves none of its code in the caches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ClassProbabilities = list[float]


class Smoother:
    """Exponential mean over time. A `time_constant_s` of 0 switches it off."""

    RESET_S = 2.0
    """After so long without face and voice the mean starts again: it may be another person."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._mean: ClassProbabilities | None = None
        self._last_ns = 0

    def update(self, t_ns: int, probabilities: ClassProbabilities) -> ClassProbabilities:
        """Return the mean up to `t_ns`, which must not decrease from call to call."""
        elapsed_ns = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._mean is None or elapsed_ns > self.RESET_S * 1e9 or self._time_constant_ns <= 0:
            self._mean = list(probabilities)
        else:
            keep = math.exp(-max(0, elapsed_ns) / self._time_constant_ns)
            self._mean = [
                keep * old + (1 - keep) * new
                for old, new in zip(self._mean, probabilities, strict=True)
            ]
        return self._mean


def calibrate(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the softmax of logits (..., L) / temperature, for many rows at once."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def calibrate_one(logits: Sequence[float], temperature: float) -> ClassProbabilities:
    """Return the softmax of one row of logits / temperature; all NaN if a logit is not finite."""
    highest = max(logits)
    if not math.isfinite(sum(logits)):
        return [math.nan] * len(logits)
    raised = [math.exp((logit - highest) / temperature) for logit in logits]
    total = sum(raised)
    return [value / total for value in raised]


def fuse_late(
    face: ClassProbabilities | None,
    voice: ClassProbabilities | None,
    weights: Mapping[str, float],
) -> tuple[ClassProbabilities, dict[str, float]]:
    """Return the weighted mean of the class probabilities, and each modality's share of it.

    At least one must be given. The shares of those given sum to 1, a missing modality's is 0.
    """
    given = {"face": face, "voice": voice}
    total = sum(weights[name] for name, row in given.items() if row is not None)
    shares = {
        name: weights[name] / total if row is not None else 0.0 for name, row in given.items()
    }
    rows = [[shares[name] * p for p in row] for name, row in given.items() if row is not None]
    return [sum(column) for column in zip(*rows, strict=True)], shares
