"""What is chosen on validation people: temperatures, weights, the abstention threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emotion_edge.training.data import Corpus
from emotion_edge.training.recipe_file import DataSection, Recipe
from emotion_edge.training.steps.bundling import choose, choose_threshold
from emotion_edge.training.steps.judging import Judgement
from emotion_edge.training.steps.material import Material


def make_material(**settings: Any) -> Material:
    recipe = Recipe(data=(DataSection(kind="folder", root="."),), **settings)
    return Material(recipe, Corpus(recipe.labels, None, None), (), ())


def judge(**by_source: tuple[float, float]) -> Judgement:
    """A judgement with (temperature, mean recall) of each modality."""
    facts = {
        "temperatures": {name: pair[0] for name, pair in by_source.items()},
        "validation": {name: {"uar": pair[1]} for name, pair in by_source.items()},
        "confidences": {name: [0.9] * 60 for name in by_source},
    }
    return Judgement(facts, Path())


def test_own_validation_people_come_first() -> None:
    """With folds, a modality whose people all train has the geometric mean of the folds."""
    folds = [judge(face=(9.0, 0.1), voice=(1.0, 0.5)), judge(face=(9.0, 0.1), voice=(4.0, 0.7))]
    choices = choose(make_material(), ["face", "voice"], [*folds, judge(face=(1.5, 0.8))])
    assert choices.temperatures == pytest.approx({"face": 1.5, "voice": 2.0})
    assert choices.weights["face"] > choices.weights["voice"] > 0
    assert sum(choices.weights.values()) == pytest.approx(1, abs=2e-3)


def test_threshold_costs_few_right_answers() -> None:
    """It is between chance and a half, and the recipe's own value wins."""
    assert choose_threshold([0.2] * 3 + [0.4] * 97, 1 / 7) == 0.2
    assert choose_threshold([0.2] * 1 + [0.4] * 99, 1 / 7) == 0.4
    assert choose_threshold([0.99] * 100, 1 / 7) == 0.5
    assert choose_threshold([0.05] * 100, 1 / 4) == 0.25
    assert choose_threshold([], 1 / 8) == 0.25
    assert choose(make_material(), ["face"], [judge(face=(1.0, 0.5))]).abstain_below == 0.5
    fixed = choose(make_material(abstain_below=0.1), ["face"], [judge(face=(1.0, 0.5))])
    assert fixed.abstain_below == 0.1
