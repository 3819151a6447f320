"""Metrics of a classifier, their spread over subjects, folds and seeds, and temperature scaling.

In: class probabilities and target labels. Out: mappings of numbers for reports and bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, log_loss

from ..engines.probabilities import calibrate

NUM_CONFIDENCE_BINS = 15
NUM_RESAMPLES = 2_000
NUM_COVERAGES = 20
METRIC_NAMES = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")
"""Scalar metrics of `score`, which can be averaged over runs."""

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def score(probabilities: Floats, targets: Numbers, labels: Sequence[str]) -> dict[str, Any]:
    """Score `probabilities` (N, L) against `targets` (N,), label indices, N > 0 -> all metrics.

    uar, macro_f1 and weighted_f1: recall and F1 averaged over the labels that occur, the last
    weighted by support; confusion: rows are target labels; ece: see `calibration_error`;
    per_class: see `score_labels`; reliability: see `reliability_bins`; risk_coverage: see
    `risk_coverage`. Raises ValueError when there is nothing to score.
    """
    if not len(targets):
        raise ValueError("no examples to score")
    predictions = probabilities.argmax(axis=1)
    confusion = confusion_matrix(targets, predictions, labels=list(range(len(labels))))
    per_class = score_labels(confusion, labels)
    present = [label for label in per_class.values() if label["support"]]
    support = [label["support"] for label in present]
    return {
        "accuracy": float((predictions == targets).mean()),
        "uar": float(np.mean([label["recall"] for label in present])),
        "macro_f1": float(np.mean([label["f1"] for label in present])),
        "weighted_f1": float(np.average([label["f1"] for label in present], weights=support)),
        "ece": calibration_error(probabilities, targets),
        "n": len(targets),
        "confusion": confusion.tolist(),
        "labels": list(labels),
        "per_class": per_class,
        "reliability": reliability_bins(probabilities, targets),
        "risk_coverage": risk_coverage(probabilities, targets),
    }


def score_labels(confusion: Numbers, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return recall, precision, f1 and support of each label from `confusion` (L, L), rows true.

    Undefined values are None: recall of a label that never occurs, precision of one that is never
    predicted, f1 if both are undefined.
    """
    correct = np.diag(confusion)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)

    def share(part: int, whole: int) -> float | None:
        return float(part / whole) if whole else None

    return {
        label: {
            "recall": share(correct[i], support[i]),
            "precision": share(correct[i], predicted[i]),
            "f1": share(2 * correct[i], support[i] + predicted[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    }


def reliability_bins(probabilities: Floats, targets: Numbers) -> list[dict[str, Any]]:
    """Return mean confidence, accuracy and count of equal bins of confidence, lowest first; the
    first two are None for an empty bin."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * NUM_CONFIDENCE_BINS).astype(int), NUM_CONFIDENCE_BINS - 1)
    rows = []
    for b in range(NUM_CONFIDENCE_BINS):
        inside = bins == b
        count = int(inside.sum())
        rows.append(
            {
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(correct[inside].mean()) if count else None,
                "count": count,
            }
        )
    return rows


def calibration_error(probabilities: Floats, targets: Numbers) -> float:
    """Return the expected calibration error over equal bins of confidence (Naeini et al. 2015)."""
    bins = [row for row in reliability_bins(probabilities, targets) if row["count"]]
    gaps = [abs(row["accuracy"] - row["confidence"]) * row["count"] for row in bins]
    return float(sum(gaps) / len(targets))


def risk_coverage(probabilities: Floats, targets: Numbers) -> list[dict[str, float]]:
    """Return the accuracy over the most confident share ("coverage") of the examples, in steps of
    1/20 (El-Yaniv and Wiener 2010)."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    correct = (probabilities.argmax(axis=1) == targets)[order]
    points = []
    for step in range(1, NUM_COVERAGES + 1):
        count = max(1, round(len(correct) * step / NUM_COVERAGES))
        accuracy = float(correct[:count].mean())
        points.append({"coverage": step / NUM_COVERAGES, "accuracy": accuracy})
    return points


def score_subjects(
    probabilities: Floats, targets: Numbers, subjects: Sequence[str]
) -> dict[str, Any]:
    """Score by subject; `subjects` (N,) are names, "" for an unknown one.

    subjects: n and accuracy by name; subject_accuracy: `spread` of the accuracies; worst_subject:
    name with the lowest accuracy. All are empty or None when no subject is known.
    """
    scores = _score_by(subjects, probabilities.argmax(axis=1) == targets)
    if not scores:
        return {"subjects": {}, "subject_accuracy": None, "worst_subject": None}
    return {
        "subjects": scores,
        "subject_accuracy": spread([subject["accuracy"] for subject in scores.values()]),
        "worst_subject": min(scores, key=lambda name: scores[name]["accuracy"]),
    }


def score_groups(
    probabilities: Floats, targets: Numbers, groups: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Score by group: `groups` (N,), such as {"sex": "female"} -> "groups": {"sex": {"female":
    n and accuracy}}."""
    correct = probabilities.argmax(axis=1) == targets
    kinds = dict.fromkeys(kind for group in groups for kind in group)
    return {
        "groups": {
            kind: _score_by([group.get(kind, "") for group in groups], correct) for kind in kinds
        }
    }


def _score_by(names: Sequence[str], correct: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """Return n and accuracy by name, sorted, numbers by value, without the unknown name ""."""
    named = np.array(names)
    known = sorted(set(names) - {""}, key=lambda name: name.zfill(9) if name.isdigit() else name)
    return {
        str(name): {
            "n": int((named == name).sum()),
            "accuracy": float(correct[named == name].mean()),
        }
        for name in known
    }


def bootstrap_accuracy(
    probabilities: Floats, targets: Numbers, subjects: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Return the 95 % interval of the accuracy from 2,000 bootstrap resamples (Efron 1979).

    Subjects are resampled with all their examples, because examples of one subject are similar.
    With fewer than two known subjects, single examples are; `ci95_by` says which.
    """
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    names, group = np.unique(np.array(subjects), return_inverse=True)
    by_subject = len(names) > 1 and "" not in names
    if not by_subject:
        group = np.arange(len(correct))
    hits, counts = np.bincount(group, weights=correct), np.bincount(group)
    rng = np.random.default_rng(seed)
    accuracies = np.empty(NUM_RESAMPLES)
    for i in range(NUM_RESAMPLES):
        drawn = rng.integers(0, len(counts), len(counts))
        accuracies[i] = hits[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(accuracies, (2.5, 97.5))
    return {
        "accuracy_ci95": [float(low), float(high)],
        "ci95_by": "subject" if by_subject else "example",
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (divided by n), minimum and maximum of at least one value."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average results of `score` over at least one run -> `*_mean` and `*_std` of each metric,
    rounded to four places, the number of runs and the summed confusion matrix."""
    spreads = {name: spread([run[name] for run in runs]) for name in METRIC_NAMES}
    return {
        **{f"{name}_mean": round(values["mean"], 4) for name, values in spreads.items()},
        **{f"{name}_std": round(values["std"], 4) for name, values in spreads.items()},
        "runs": len(runs),
        "confusion": np.sum([run["confusion"] for run in runs], axis=0).tolist(),
    }


def fit_temperature(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    average: Callable[[Floats], Floats] | None = None,
) -> float:
    """Fit the temperature with the lowest log loss on held-out examples (Guo et al. 2017).

    `average` reduces the probabilities (M, L) of all windows to those of the examples (N, L).
    """
    label_indices = list(range(logits.shape[1]))

    def loss(log_temperature: float) -> float:
        probabilities = calibrate(logits, float(np.exp(log_temperature)))
        averaged = probabilities if average is None else average(probabilities)
        return float(log_loss(targets, averaged, labels=label_indices))

    best = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(best.x))
