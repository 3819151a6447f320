"""The classifier of action units, on synthetic tables."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.training.data.action_units import UNITS, ActionUnits
from emotion_edge.training.recipes.action_units import UnitsRecipe, predict_units, train_units

RECIPE = UnitsRecipe(num_trees=20)


@pytest.fixture(scope="module")
def units() -> ActionUnits:
    """Units with one raised intensity per emotion."""
    rng = np.random.default_rng(0)
    emotions = np.arange(240) % 8
    values = rng.uniform(0, 0.5, (240, 35)).astype(np.float32)
    values[np.arange(240), emotions] += 1.5
    recording_ids = [f"{n}" for n in range(240)]
    return ActionUnits(
        list(UNITS), recording_ids, values, emotions, emotions % 7, np.arange(240) % 5
    )


def test_train_units(units: ActionUnits) -> None:
    """Held-out rows are classified; equal seeds give equal predictions."""
    first, again = (
        predict_units(train_units(units, np.arange(160), RECIPE), units.values[160:])
        for _ in range(2)
    )
    assert (first.argmax(axis=1) == units.emotions[160:]).mean() > 0.9
    np.testing.assert_allclose(np.exp(first).sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(first, again)


def test_emotion_absent_in_training(units: ActionUnits) -> None:
    """It is the least likely one, and all log-probabilities are finite."""
    seven = np.flatnonzero(units.emotions != 3)
    predictions = predict_units(train_units(units, seven, RECIPE), units.values)
    assert predictions.shape == (240, 8)
    assert np.isfinite(predictions).all()
    assert (predictions.argmin(axis=1) == 3).all()
