"""Late fusion: calibrated opinions, weighted; what a learned fusion will have to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def calibrate(logits: NDArray[np.float32], temperature: float) -> Float64:
    """Logits (..., 7) -> probabilities: softmax of logits / temperature."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def fuse(
    opinions: Mapping[str, Float64], weights: Mapping[str, float]
) -> tuple[Float64, dict[str, float]]:
    """Weighted mean of the opinions there are -> probabilities, weight of each modality.

    The weights of those present are scaled to sum to 1; a modality without an opinion has
    weight 0. There must be at least one opinion.
    """
    total = sum(weights[name] for name in opinions)
    shares = {name: weights[name] / total if name in opinions else 0.0 for name in weights}
    fused = sum((shares[name] * opinion for name, opinion in opinions.items()), np.zeros(1))
    return fused, shares
