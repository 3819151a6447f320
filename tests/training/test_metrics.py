"""Metrics on cases with results computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.engines.probabilities import calibrate
from emotion_edge.training.metrics import (
    bootstrap_accuracy,
    calibration_error,
    fit_temperature,
    reliability_bins,
    risk_coverage,
    score,
    score_groups,
    score_subjects,
    spread,
    summarize,
)


def test_score_by_hand() -> None:
    """Two of three correct, recalls of 1/2 and 1/1; a label that never occurs does not count."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    metrics = score(probabilities, np.array([0, 0, 1]), ["a", "b", "c"])
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["uar"] == pytest.approx(0.75)
    assert metrics["macro_f1"] == pytest.approx(2 / 3)
    assert metrics["weighted_f1"] == pytest.approx(2 / 3)
    assert metrics["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert metrics["n"] == 3
    assert metrics["per_class"] == {
        "a": {"recall": 0.5, "precision": 1.0, "f1": pytest.approx(2 / 3), "support": 2},
        "b": {"recall": 1.0, "precision": 0.5, "f1": pytest.approx(2 / 3), "support": 1},
        "c": {"recall": None, "precision": None, "f1": None, "support": 0},
    }


def test_label_that_is_only_predicted() -> None:
    """A label without examples has precision 0 and is not part of the means."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    metrics = score(probabilities, np.array([0, 0]), ["a", "b", "c"])
    assert metrics["per_class"]["c"]["precision"] == 0
    assert metrics["per_class"]["c"]["f1"] == 0
    assert metrics["uar"] == pytest.approx(0.5)
    assert metrics["macro_f1"] == pytest.approx(2 / 3)


def test_metrics_agree_with_scikit_learn() -> None:
    """On random predictions with labels of unequal support."""
    from sklearn.metrics import f1_score, recall_score

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 200)
    targets = rng.choice(5, 200, p=[0.5, 0.2, 0.2, 0.1, 0.0])
    metrics = score(probabilities, targets, list("abcde"))
    predictions = probabilities.argmax(axis=1)
    more = {"labels": [0, 1, 2, 3], "zero_division": 0}
    assert metrics["uar"] == pytest.approx(
        recall_score(targets, predictions, average="macro", **more)
    )
    for name, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        want = f1_score(targets, predictions, average=average, **more)
        assert metrics[name] == pytest.approx(want)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        score(np.empty((0, 3)), np.empty(0, np.int64), list("abc"))


def test_calibration_error_by_hand() -> None:
    """Confidence 0.9 and accuracy 0.5: an error of 0.4."""
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(probabilities, np.arange(10) % 2) == pytest.approx(0.4)


def test_reliability_bins_by_hand() -> None:
    """Fifteen bins, lowest first; confidence 1 is in the last; empty bins have no values."""
    probabilities = np.array([[1.0, 0.0], [0.94, 0.06], [0.55, 0.45], [0.45, 0.55]])
    bins = reliability_bins(probabilities, np.array([0, 1, 0, 0]))
    assert len(bins) == 15
    assert bins[14] == {
        "confidence": pytest.approx(0.97),
        "accuracy": pytest.approx(0.5),
        "count": 2,
    }
    assert bins[8] == {"confidence": pytest.approx(0.55), "accuracy": 0.5, "count": 2}
    assert bins[0] == {"confidence": None, "accuracy": None, "count": 0}
    assert sum(row["count"] for row in bins) == 4


def test_risk_coverage_by_hand() -> None:
    """Ten examples, the five most confident ones correct."""
    confidence = np.linspace(0.95, 0.55, 10)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    points = risk_coverage(probabilities, (np.arange(10) >= 5).astype(int))
    assert [point["coverage"] for point in points][:2] == [0.05, 0.1]
    assert [point["accuracy"] for point in points if point["coverage"] <= 0.5] == [1.0] * 10
    assert points[-1] == {"coverage": 1.0, "accuracy": 0.5}


def test_subjects_by_hand() -> None:
    """n and accuracy in the order of the numbers; unknown subjects do not count."""
    probabilities = np.array([[0.9, 0.1]] * 5)
    targets = np.array([0, 1, 0, 0, 1])
    metrics = score_subjects(probabilities, targets, ["10", "10", "9", "9", ""])
    assert list(metrics["subjects"].items()) == [
        ("9", {"n": 2, "accuracy": 1.0}),
        ("10", {"n": 2, "accuracy": 0.5}),
    ]
    assert metrics["worst_subject"] == "10"
    assert metrics["subject_accuracy"] == {"mean": 0.75, "std": 0.25, "min": 0.5, "max": 1.0}
    unknown = score_subjects(probabilities, targets, [""] * 5)
    assert unknown == {"subjects": {}, "subject_accuracy": None, "worst_subject": None}


def test_groups_by_hand() -> None:
    """Examples without a group do not count in it."""
    groups = [{"sex": "female"}, {"sex": "male", "age": "old"}, {"sex": "male"}]
    metrics = score_groups(np.array([[0.9, 0.1]] * 3), np.array([0, 1, 0]), groups)
    assert list(metrics["groups"]["sex"]) == ["female", "male"]
    assert metrics["groups"] == {
        "sex": {"male": {"n": 2, "accuracy": 0.5}, "female": {"n": 1, "accuracy": 1.0}},
        "age": {"old": {"n": 1, "accuracy": 0.0}},
    }


def test_bootstrap_resamples_subjects() -> None:
    """Twenty subjects, each all correct or all wrong: the interval of 20 examples, not of 400."""
    probabilities = np.tile([0.9, 0.1], (400, 1))
    subjects = np.arange(400) // 20
    targets = subjects % 2
    by_subject = bootstrap_accuracy(probabilities, targets, [str(number) for number in subjects])
    assert by_subject["ci95_by"] == "subject"
    low, high = by_subject["accuracy_ci95"]
    assert (low, high) == (pytest.approx(0.28, abs=0.05), pytest.approx(0.72, abs=0.05))
    by_example = bootstrap_accuracy(probabilities, targets, [""] * 400)
    assert by_example["ci95_by"] == "example"
    low, high = by_example["accuracy_ci95"]
    assert (low, high) == (pytest.approx(0.45, abs=0.02), pytest.approx(0.55, abs=0.02))
    assert bootstrap_accuracy(probabilities, targets, ["1"] * 400)["ci95_by"] == "example"


def test_interval_is_seeded() -> None:
    rng = np.random.default_rng(0)
    probabilities, targets = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    subjects = [str(i % 7) for i in range(50)]
    first, again, other = (
        bootstrap_accuracy(probabilities, targets, subjects, seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_spread_by_hand() -> None:
    assert spread([0.2, 0.4]) == {
        "mean": pytest.approx(0.3),
        "std": pytest.approx(0.1),
        "min": 0.2,
        "max": 0.4,
    }


def test_summary_of_runs() -> None:
    """Mean and spread of every metric; confusion matrices are added."""
    names = ("uar", "macro_f1", "weighted_f1", "ece")
    run = {**dict.fromkeys(names, 0.4), "confusion": [[1, 0], [2, 3]]}
    metrics = summarize([{**run, "accuracy": 0.4}, {**run, "accuracy": 0.6}])
    assert metrics["accuracy_mean"] == pytest.approx(0.5)
    assert metrics["accuracy_std"] == pytest.approx(0.1)
    assert metrics["ece_mean"] == pytest.approx(0.4)
    assert metrics["runs"] == 2
    assert metrics["confusion"] == [[2, 0], [4, 6]]


def test_temperature_undoes_overconfidence() -> None:
    """Logits three times too large get a temperature near three, which calibrates them."""
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0, 1.5, (20_000, 4))
    probabilities = calibrate(calibrated.astype(np.float32), 1.0)
    targets = (probabilities.cumsum(axis=1) > rng.random((len(calibrated), 1))).argmax(axis=1)
    overconfident = (3 * calibrated).astype(np.float32)
    temperature = fit_temperature(overconfident, targets)
    assert temperature == pytest.approx(3, rel=0.05)
    assert calibration_error(calibrate(overconfident, temperature), targets) < 0.015
