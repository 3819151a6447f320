"""Late fusion: calibrated opinions, weighted; what a learned fusion will have to beat.

An opinion is a list of seven floats. NumPy would cost more than the arithmetic on so few: after a
network has run, nothing of it is left in the caches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ClassProbabilities = list[float]


def calibrate(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Logits (..., 7) -> probabilities: softmax of logits / temperature. For many at once."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def calibrate_one(logits: Sequence[float], temperature: float) -> ClassProbabilities:
    """The same for one opinion; all NaN when a logit is not finite."""
    highest = max(logits)
    if not math.isfinite(sum(logits)):
        return [math.nan] * len(logits)
    raised = [math.exp((logit - highest) / temperature) for logit in logits]
    total = sum(raised)
    return [value / total for value in raised]


def fuse(
    modality_probabilities: Mapping[str, ClassProbabilities], weights: Mapping[str, float]
) -> tuple[ClassProbabilities, dict[str, float]]:
    """Weighted mean of the opinions there are -> probabilities, weight of each modality.

    The weights of those present are scaled to sum to 1; a modality without an opinion has
    weight 0. There must be at least one opinion.
    """
    total = sum(weights[name] for name in modality_probabilities)
    weight_shares = {
        name: weights[name] / total if name in modality_probabilities else 0.0 for name in weights
    }
    weighted = [
        [weight_shares[name] * p for p in class_probabilities]
        for name, class_probabilities in modality_probabilities.items()
    ]
    return [sum(column) for column in zip(*weighted, strict=True)], weight_shares
