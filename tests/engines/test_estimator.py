"""Late fusion: the mathematics of temperature and weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_edge.engines.estimator import calibrate, calibrate_one, fuse_late

LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=7, max_size=7)
WEIGHT = st.floats(0.01, 1.0)


@settings(max_examples=50)
@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_calibrated_is_a_distribution(logits: list[float], temperature: float) -> None:
    """Sums to 1, is never negative, and keeps the order, however large the logits."""
    array = np.array(logits, np.float32)
    probabilities = calibrate(array, temperature)
    assert probabilities.sum() == pytest.approx(1.0)
    assert (probabilities >= 0).all()
    assert probabilities[array.argmax()] == probabilities.max()


@settings(max_examples=50)
@given(logits=LOGITS, temperature=st.floats(0.01, 100))
def test_one_is_calibrated_like_many(logits: list[float], temperature: float) -> None:
    """The device's way and the evaluation's way give the same."""
    many = calibrate(np.array([logits]), temperature)
    np.testing.assert_allclose(calibrate_one(logits, temperature), many[0], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(bad: float) -> None:
    """A single bad logit spoils the opinion, and shows."""
    assert np.isnan(calibrate_one([0.0, bad, 1.0], 1.0)).all()


def test_temperature() -> None:
    """1 is the softmax, higher is less sure, lower is surer; worked out by hand for two labels."""
    logits = np.array([[np.log(3.0), 0.0]], np.float32)
    np.testing.assert_allclose(calibrate(logits, 1.0), [[0.75, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(calibrate(logits, 0.5), [[0.9, 0.1]], rtol=1e-6)
    assert calibrate(logits, 4.0)[0, 0] == pytest.approx(3**0.25 / (1 + 3**0.25))


@settings(max_examples=50)
@given(face=LOGITS, voice=LOGITS, face_weight=WEIGHT, voice_weight=WEIGHT)
def test_fused_is_a_distribution(
    face: list[float], voice: list[float], face_weight: float, voice_weight: float
) -> None:
    """Whatever the opinions and weights; it lies between the two opinions, label by label."""
    rows = calibrate_one(face, 1.3), calibrate_one(voice, 0.7)
    fused, shares = fuse_late(*rows, {"face": face_weight, "voice": voice_weight})
    assert sum(fused) == pytest.approx(1.0)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["face"] / shares["voice"] == pytest.approx(face_weight / voice_weight)
    low, high = np.minimum(*rows), np.maximum(*rows)
    assert (np.array(fused) >= low - 1e-12).all()
    assert (np.array(fused) <= high + 1e-12).all()


def test_single_modality_passes_unchanged() -> None:
    """Its share becomes 1, the missing one's 0."""
    voice = calibrate_one(range(7), 1.0)
    fused, shares = fuse_late(None, voice, {"face": 0.8, "voice": 0.2})
    np.testing.assert_allclose(fused, voice)
    assert shares == {"face": 0.0, "voice": 1.0}


def test_weights() -> None:
    """0.6 and 0.2 count as three quarters and one quarter."""
    fused, shares = fuse_late([1.0, 0.0], [0.0, 1.0], {"face": 0.6, "voice": 0.2})
    np.testing.assert_allclose(fused, [0.75, 0.25])
    assert shares == {"face": pytest.approx(0.75), "voice": pytest.approx(0.25)}
