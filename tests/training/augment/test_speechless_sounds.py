"""Synthetic sounds without speech."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.training.augment import make_speechless
from emotion_edge.training.augment.speechless_sounds import SOUNDS


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("seed", range(3))
def test_finite_audible_and_of_the_asked_length(name: str, seed: int) -> None:
    wave = SOUNDS[name](48_000, np.random.default_rng(seed))
    assert wave.shape == (48_000,)
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() > 0.0


def test_peak_and_seed() -> None:
    first, same, other = (make_speechless(8_000, np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.abs(first).max() == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
