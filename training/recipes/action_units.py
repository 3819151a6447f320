"""Which movements of a face go with which emotion: the face's side of the fusion on real pairs.

It stands where the face network stands on the device: RAVDESS's pictures need not be at hand, the
action units measured in them are a table. Nothing of it ships.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ..data import EMOTIONS8, ActionUnits


@dataclass(frozen=True, slots=True)
class UnitsRecipe:
    """Chosen on validation people: trees and a linear model together, 60.1 %; alone 58.1 and 59.1;
    a perceptron 59.8."""

    num_trees: int = 400
    min_samples_leaf: int = 2
    regularisation: float = 30.0
    """Of the linear model, 1 / C."""
    seed: int = 0


def train_units(
    units: ActionUnits, index: NDArray[np.intp], recipe: UnitsRecipe
) -> VotingClassifier:
    """Fit on the rows `index` of the table."""
    trees = ExtraTreesClassifier(
        recipe.num_trees, min_samples_leaf=recipe.min_samples_leaf, random_state=recipe.seed
    )
    # Intensities are long-tailed.
    linear = make_pipeline(
        FunctionTransformer(np.log1p),
        StandardScaler(),
        LogisticRegression(C=1 / recipe.regularisation, max_iter=1_000),
    )
    model = VotingClassifier([("trees", trees), ("linear", linear)], voting="soft")
    return model.fit(units.values[index], units.emotions[index])


def predict_units(model: VotingClassifier, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of the eight emotions (N, 8); one that training lacked is very unlikely."""
    found = np.full((len(values), len(EMOTIONS8)), 1e-4)
    found[:, model.classes_] += model.predict_proba(values)
    return np.log(found / found.sum(axis=1, keepdims=True)).astype(np.float32)
