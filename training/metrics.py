"""Figures of merit from probabilities and true labels, and the temperature that calibrates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from ..engines.fusion import calibrate

NUM_CONFIDENCE_BINS = 15


def score(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, Any]:
    """`probabilities` (N, L), `truth` (N,) label numbers -> the figures of one evaluation.

    uar: mean recall over the labels that occur; confusion: rows are true labels.
    """
    guess = probabilities.argmax(axis=1)
    numbers = list(range(len(labels)))
    present = sorted(set(truth.tolist()))
    return {
        "accuracy": float(accuracy_score(truth, guess)),
        "uar": float(recall_score(truth, guess, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(truth, guess, labels=present, average="macro", zero_division=0)),
        "weighted_f1": float(
            f1_score(truth, guess, labels=present, average="weighted", zero_division=0)
        ),
        "ece": calibration_error(probabilities, truth),
        "n": len(truth),
        "confusion": confusion_matrix(truth, guess, labels=numbers).tolist(),
        "labels": list(labels),
    }


def calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Expected calibration error over equal bins of confidence (Naeini et al. 2015)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * NUM_CONFIDENCE_BINS).astype(int), NUM_CONFIDENCE_BINS - 1)
    gaps = [
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature with the least log loss on held-out examples (Guo et al. 2017)."""
    numbers = list(range(logits.shape[1]))

    def loss(log_temperature: float) -> float:
        probabilities = calibrate(logits, float(np.exp(log_temperature)))
        return float(log_loss(truth, probabilities, labels=numbers))

    best = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(best.x))
