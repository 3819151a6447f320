"""Divisions of a corpus: nobody is on two sides, and the networks that ship train on all folds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from emotion_edge.engines.config_file import ConfigError
from emotion_edge.training.config import Round, Stage
from emotion_edge.training.data import Corpus, FaceExamples, VoiceExamples, make_folds
from emotion_edge.training.recipe_file import DataSection, FaceSection, FusionSection, Recipe
from emotion_edge.training.steps import material as module
from emotion_edge.training.steps.material import Material, list_divisions, prepare_material

PEOPLE = tuple(f"mine:{letter}" for letter in "abcdefgh")


def make_corpus(folds: bool) -> Corpus:
    """A recording of each person and three faces of nobody known, who trains, validates, tests."""
    num = len(PEOPLE)
    splits = ("train",) * num if folds else ("train",) * 4 + ("valid",) * 2 + ("test",) * 2
    voices = VoiceExamples(
        [np.zeros(400, np.float32)] * num,
        np.zeros(num, np.int64),
        PEOPLE,
        splits,
        tuple(f"{person}/1" for person in PEOPLE),
        np.zeros(num, np.int64),
        ("happy", "sad"),
        (0, 1),
    )
    faces = FaceExamples(
        np.zeros((3, 48, 48), np.uint8),
        np.ones((3, 2), np.float32),
        np.zeros(3, np.int64),
        ("",) * 3,
        ("train", "valid", "test"),
        ("",) * 3,
    )
    return Corpus(("happy", "sad"), faces, voices, folds=make_folds(PEOPLE) if folds else ())


def make_material(folds: bool, seeds: int = 2) -> Material:
    recipe = Recipe(data=(DataSection(kind="folder", root="."),), seeds=seeds)
    return Material(recipe, make_corpus(folds), (), ())


def test_folds() -> None:
    """Every person is tested once per seed, and in each fold is on one side only."""
    *folds, ships = list_divisions(make_material(folds=True))
    assert [division.seed for division in folds] == [0] * 4 + [1] * 4
    tested: list[str] = []
    for division in folds:
        parts = division.voices
        assert parts is not None
        sides = [{PEOPLE[i] for i in index} for index in (parts.train, parts.valid, parts.test)]
        assert all(sides)
        assert sum(map(len, sides)) == len(set().union(*sides)) == len(PEOPLE)
        tested += sides[2]
        assert division.faces is not None
        assert [one.tolist() for one in (division.faces.train, division.faces.test)] == [[0], [2]]
    assert sorted(tested) == sorted(PEOPLE * 2)
    assert ships.voices is not None
    assert ships.voices.train.tolist() == list(range(len(PEOPLE)))


def test_splits() -> None:
    """The data's own, once for each seed; the first seed ships."""
    other, ships = list_divisions(make_material(folds=False))
    assert (other.seed, ships.seed) == (1, 0)
    assert ships.voices is not None
    assert ships.voices.test.tolist() == [6, 7]


def test_channel_fusion_needs_the_networks_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused with folds, before anything is trained."""
    monkeypatch.setattr(module, "load_corpus", lambda *_: make_corpus(folds=True))
    recipe = Recipe(
        data=(DataSection(kind="folder", root="."),), fusion=FusionSection(kind="channel")
    )
    with pytest.raises(ConfigError, match=r"fusion\.kind"):
        prepare_material(recipe)


def test_level_of_a_size_never_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    """It is named before the training; sizes between those trained on are none."""
    recipe = Recipe(data=(DataSection(kind="folder", root="."),))
    module.warn_of_sizes(recipe)
    assert not caplog.messages
    large = FaceSection(rounds=(Round((Stage(1, (112,)),)),))
    module.warn_of_sizes(msgspec.structs.replace(recipe, face=large))
    assert len(caplog.messages) == len(recipe.levels)
    assert all("112" in line for line in caplog.messages)
