"""Figures of merit on cases that can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.engines.fusion import calibrate
from emotion_edge.training.metrics import calibration_error, fit_temperature, score


def test_score_by_hand() -> None:
    """Two of three right; recall is 1/2 and 1/1; the label that never occurs does not count."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    figures = score(probabilities, np.array([0, 0, 1]), ["a", "b", "c"])
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["uar"] == pytest.approx(0.75)
    assert figures["macro_f1"] == pytest.approx(2 / 3)
    assert figures["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert figures["n"] == 3


def test_calibration_error_by_hand() -> None:
    """Always 0.9 sure and right half of the time: 0.4 off."""
    probabilities = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(probabilities, np.arange(10) % 2) == pytest.approx(0.4)


def test_temperature_undoes_overconfidence() -> None:
    """Logits made three times too large get a temperature near three, and are calibrated then."""
    rng = np.random.default_rng(0)
    fair = rng.normal(0, 1.5, (20_000, 4))
    chances = calibrate(fair.astype(np.float32), 1.0)
    truth = (chances.cumsum(axis=1) > rng.random((len(fair), 1))).argmax(axis=1)
    loud = (3 * fair).astype(np.float32)
    temperature = fit_temperature(loud, truth)
    assert temperature == pytest.approx(3, rel=0.05)
    assert calibration_error(calibrate(loud, temperature), truth) < 0.015
