"""Action units to emotions, on made-up tables."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.training.data.action_units import UNITS, ActionUnits
from emotion_edge.training.recipes.action_units import UnitsRecipe, predict_units, train_units

RECIPE = UnitsRecipe(num_trees=20)


@pytest.fixture(scope="module")
def units() -> ActionUnits:
    """Each emotion has its own unit."""
    rng = np.random.default_rng(0)
    emotions = np.arange(240) % 8
    values = rng.uniform(0, 0.5, (240, 35)).astype(np.float32)
    values[np.arange(240), emotions] += 1.5
    recording_ids = [f"{n}" for n in range(240)]
    return ActionUnits(
        list(UNITS), recording_ids, values, emotions, emotions % 7, np.arange(240) % 5
    )


def test_action_units_are_learned(units: ActionUnits) -> None:
    """Rows it has not seen, too; the same answers for the same seed."""
    model = train_units(units, np.arange(160), RECIPE)
    answers = predict_units(model, units.values[160:])
    assert (answers.argmax(axis=1) == units.emotions[160:]).mean() > 0.9
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0, rtol=1e-5)
    again = predict_units(train_units(units, np.arange(160), RECIPE), units.values[160:])
    np.testing.assert_array_equal(answers, again)


def test_an_emotion_that_training_lacks(units: ActionUnits) -> None:
    """It is named last, and every answer is finite."""
    seven = np.flatnonzero(units.emotions != 3)
    answers = predict_units(train_units(units, seven, RECIPE), units.values)
    assert answers.shape == (240, 8)
    assert np.isfinite(answers).all()
    assert (answers.argmin(axis=1) == 3).all()
