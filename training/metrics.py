"""Figures of merit from probabilities and true labels, their spread over people, folds and seeds,
and the temperature that calibrates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, log_loss

from ..engines.estimator import calibrate

NUM_CONFIDENCE_BINS = 15
NUM_RESAMPLES = 2_000
NUM_COVERAGES = 20
METRIC_NAMES = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")
"""The single numbers of `score`, which can be averaged over runs."""

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def score(probabilities: Floats, targets: Numbers, labels: Sequence[str]) -> dict[str, Any]:
    """`probabilities` (N, L), `targets` (N,) label numbers, N > 0 -> the figures of one evaluation.

    uar: mean recall over the labels that occur, as are macro_f1 (plain mean) and weighted_f1
    (weighted by support); confusion: rows are true labels; ece: see `calibration_error`;
    per_class: see `score_labels`; reliability: see `reliability_bins`; risk_coverage: see
    `risk_coverage`. Raises ValueError when there is nothing to score.
    """
    if not len(targets):
        raise ValueError("nothing to score: no example")
    guess = probabilities.argmax(axis=1)
    confusion = confusion_matrix(targets, guess, labels=list(range(len(labels))))
    per_class = score_labels(confusion, labels)
    present = [one for one in per_class.values() if one["support"]]
    support = [one["support"] for one in present]
    return {
        "accuracy": float((guess == targets).mean()),
        "uar": float(np.mean([one["recall"] for one in present])),
        "macro_f1": float(np.mean([one["f1"] for one in present])),
        "weighted_f1": float(np.average([one["f1"] for one in present], weights=support)),
        "ece": calibration_error(probabilities, targets),
        "n": len(targets),
        "confusion": confusion.tolist(),
        "labels": list(labels),
        "per_class": per_class,
        "reliability": reliability_bins(probabilities, targets),
        "risk_coverage": risk_coverage(probabilities, targets),
    }


def score_labels(confusion: Numbers, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`confusion` (L, L), rows true -> recall, precision, f1 and support of each label.

    What cannot be said is None: recall of a label that never occurs, precision of one that was
    never answered, f1 when both are so.
    """
    right = np.diag(confusion)
    support, answered = confusion.sum(axis=1), confusion.sum(axis=0)

    def share(part: int, whole: int) -> float | None:
        return float(part / whole) if whole else None

    return {
        label: {
            "recall": share(right[i], support[i]),
            "precision": share(right[i], answered[i]),
            "f1": share(2 * right[i], support[i] + answered[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    }


def reliability_bins(probabilities: Floats, targets: Numbers) -> list[dict[str, Any]]:
    """Equal bins of confidence, lowest first: mean confidence, share that was right and count of
    each; None for the first two where a bin is empty."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * NUM_CONFIDENCE_BINS).astype(int), NUM_CONFIDENCE_BINS - 1)
    rows = []
    for b in range(NUM_CONFIDENCE_BINS):
        inside = bins == b
        count = int(inside.sum())
        rows.append(
            {
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(right[inside].mean()) if count else None,
                "count": count,
            }
        )
    return rows


def calibration_error(probabilities: Floats, targets: Numbers) -> float:
    """Expected calibration error over equal bins of confidence (Naeini et al. 2015)."""
    bins = [one for one in reliability_bins(probabilities, targets) if one["count"]]
    gaps = [abs(one["accuracy"] - one["confidence"]) * one["count"] for one in bins]
    return float(sum(gaps) / len(targets))


def risk_coverage(probabilities: Floats, targets: Numbers) -> list[dict[str, float]]:
    """How right the surest answers are: accuracy over the most confident share ("coverage") of
    the examples, in steps of 1/20 (El-Yaniv and Wiener 2010)."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right = (probabilities.argmax(axis=1) == targets)[order]
    points = []
    for step in range(1, NUM_COVERAGES + 1):
        count = max(1, round(len(right) * step / NUM_COVERAGES))
        accuracy = float(right[:count].mean())
        points.append({"coverage": step / NUM_COVERAGES, "accuracy": accuracy})
    return points


def score_subjects(
    probabilities: Floats, targets: Numbers, subjects: Sequence[str]
) -> dict[str, Any]:
    """`subjects` (N,): whom each example shows, "" where nobody knows -> figures by person.

    subjects: n and accuracy of each, by name; subject_accuracy: `spread` of the accuracies;
    worst_subject: who has the lowest. All empty or None when no subject is known.
    """
    people = _score_by(subjects, probabilities.argmax(axis=1) == targets)
    if not people:
        return {"subjects": {}, "subject_accuracy": None, "worst_subject": None}
    return {
        "subjects": people,
        "subject_accuracy": spread([one["accuracy"] for one in people.values()]),
        "worst_subject": min(people, key=lambda name: people[name]["accuracy"]),
    }


def score_groups(
    probabilities: Floats, targets: Numbers, groups: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """`groups` (N,): such as {"sex": "female"} -> "groups": {"sex": {"female": n and accuracy}}."""
    right = probabilities.argmax(axis=1) == targets
    kinds = dict.fromkeys(kind for one in groups for kind in one)
    found = {kind: _score_by([one.get(kind, "") for one in groups], right) for kind in kinds}
    return {"groups": found}


def _score_by(names: Sequence[str], right: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """n and accuracy by name, in the order of the names, numbers as numbers; "" is nobody."""
    named = np.array(names)
    known = sorted(set(names) - {""}, key=lambda name: name.zfill(9) if name.isdigit() else name)
    return {
        str(name): {
            "n": int((named == name).sum()),
            "accuracy": float(right[named == name].mean()),
        }
        for name in known
    }


def bootstrap_accuracy(
    probabilities: Floats, targets: Numbers, subjects: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """95 % interval of the accuracy, from 2,000 resamples with replacement (Efron 1979).

    People are drawn, with all their examples, since examples of one person are alike; where fewer
    than two people are known, single examples are, and `ci95_by` says so.
    """
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    names, group = np.unique(np.array(subjects), return_inverse=True)
    by_person = len(names) > 1 and "" not in names
    if not by_person:
        group = np.arange(len(right))
    hits, counts = np.bincount(group, weights=right), np.bincount(group)
    rng = np.random.default_rng(seed)
    accuracies = np.empty(NUM_RESAMPLES)
    for i in range(NUM_RESAMPLES):
        drawn = rng.integers(0, len(counts), len(counts))
        accuracies[i] = hits[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(accuracies, (2.5, 97.5))
    return {
        "accuracy_ci95": [float(low), float(high)],
        "ci95_by": "subject" if by_person else "example",
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (of the values themselves, divided by n), least and largest of at
    least one value."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results of `score` over folds and seeds, at least one -> `*_mean` and `*_std` of each
    figure, the number of runs and the summed confusion matrix. Rounded to four places."""
    spreads = {name: spread([run[name] for run in runs]) for name in METRIC_NAMES}
    return {
        **{f"{name}_mean": round(found["mean"], 4) for name, found in spreads.items()},
        **{f"{name}_std": round(found["std"], 4) for name, found in spreads.items()},
        "runs": len(runs),
        "confusion": np.sum([run["confusion"] for run in runs], axis=0).tolist(),
    }


def fit_temperature(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    average: Callable[[Floats], Floats] | None = None,
) -> float:
    """The temperature with the least log loss on held-out examples (Guo et al. 2017).

    `average` makes of the probabilities (M, L) of all windows those of the examples (N, L)."""
    numbers = list(range(logits.shape[1]))

    def loss(log_temperature: float) -> float:
        probabilities = calibrate(logits, float(np.exp(log_temperature)))
        answers = probabilities if average is None else average(probabilities)
        return float(log_loss(targets, answers, labels=numbers))

    best = minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return float(np.exp(best.x))
