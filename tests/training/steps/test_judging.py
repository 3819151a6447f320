"""Folds: networks, judgements and pairs from people held out, stored, and summarised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.engines.bundles import Level
from emotion_edge.training.config import (
    FaceNetwork,
    OptimizerConfig,
    Round,
    Stage,
    VoiceAugmentation,
    VoiceNetwork,
)
from emotion_edge.training.data import Corpus, FaceExamples, VoiceExamples, make_folds
from emotion_edge.training.recipe_file import (
    DataSection,
    FaceSection,
    FusionOptimizer,
    FusionSection,
    PeopleSection,
    Recipe,
    VoiceOptimizer,
    VoiceSection,
)
from emotion_edge.training.steps import fold_scores, networks
from emotion_edge.training.steps.fusing import collect_pairs
from emotion_edge.training.steps.judging import Judgement, judge_division
from emotion_edge.training.steps.material import Division, Material, list_divisions
from emotion_edge.training.steps.networks import train_division
from emotion_edge.training.steps.progress import Progress
from emotion_edge.training.steps.summary import summarize_divisions

PEOPLE = tuple(f"mine:{letter}" for letter in "abcd")
FINE = ("calm", "neutral", "happy")
GROUPS = (0, 0, 1)
RECIPE = Recipe(
    data=(DataSection(kind="folder", root="."),),
    labels=("neutral", "happy"),
    people=PeopleSection(protocol="folds"),
    levels=(Level("high", 32),),
    face=FaceSection(
        FaceNetwork(0.0, 0.0),
        (Round((Stage(1, (32,)),)),),
        OptimizerConfig(batch_size=6),
        compile_model=False,
    ),
    voice=VoiceSection(
        VoiceNetwork(num_members=1, channels=(4, 4, 4), lstm_size=4),
        VoiceAugmentation(num_variants=1, crop_frames=32),
        VoiceOptimizer(batch_size=3),
        num_epochs=1,
    ),
    fusion=FusionSection(learning=FusionOptimizer(batch_size=2), num_epochs=1),
)


@pytest.fixture(scope="module")
def material() -> Material:
    """A film of each of four people and three names; two frames each."""
    rng = np.random.default_rng(0)
    t = np.arange(9_600) / 16_000
    fine = np.array([name for _ in PEOPLE for name in range(len(FINE))])
    labels = np.array(GROUPS)[fine]
    people = tuple(person for person in PEOPLE for _ in FINE)
    films = tuple(f"{person}/{name}" for person in PEOPLE for name in FINE)
    train = ("train",) * len(films)
    clips = [
        (0.3 * np.sin(2 * np.pi * (200 + 300 * name) * t) + 0.01 * rng.standard_normal(len(t)))
        for name in fine
    ]
    voices = VoiceExamples(
        [clip.astype(np.float32) for clip in clips],
        labels,
        people,
        train,
        films,
        fine,
        FINE,
        GROUPS,
    )
    faces = FaceExamples(
        rng.integers(0, 256, (2 * len(films), 48, 48), np.uint8),
        np.eye(2, dtype=np.float32)[labels.repeat(2)],
        labels.repeat(2),
        tuple(person for person in people for _ in range(2)),
        train * 2,
        tuple(film for film in films for _ in range(2)),
    )
    corpus = Corpus(RECIPE.labels, faces, voices, folds=make_folds(PEOPLE))
    noises = [rng.standard_normal(16_000).astype(np.float32)]
    return Material(RECIPE, corpus, (), noises)


Judged = list[tuple[Division, Judgement]]


@pytest.fixture(scope="module")
def judged(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """The first two folds and their judgements."""
    work = tmp_path_factory.mktemp("work")
    divisions = list_divisions(material)[:2]
    return [
        (each, judge_division(material, each, train_division(material, each, work, NO_BAR), work))
        for each in divisions
    ]


NO_BAR = Progress()


def test_metrics_are_of_the_test_people(judged: Judged) -> None:
    """Of each modality and their fusion, on the recipe's labels and on the data's own names."""
    for division, judgement in judged:
        test = judgement.facts["test"]
        assert set(test["labels"]) >= {"face", "voice", "fusion", "late_fusion"}
        assert all(metrics["n"] == len(FINE) for metrics in test["labels"].values()), division
        assert np.shape(test["fine"]["voice"]["confusion"]) == (3, 3)
        assert set(judgement.temperatures) == {"face", "voice"}
        assert 0 <= judgement.facts["noise"]["accuracy"] <= 1


def test_pairs_are_of_the_test_people(judged: Judged) -> None:
    """The fusion network that ships reads what the folds' networks say about people who are new to
    them."""
    pairs, source = collect_pairs([judgement for _, judgement in judged])
    assert pairs is not None
    assert source == "face"
    assert pairs.faces.shape[1:] == (1, 2)
    assert len(pairs.labels) == sum(
        division.voices is not None and len(division.voices.test) for division, _ in judged
    )


def test_summary(material: Material, judged: Judged) -> None:
    """Mean and spread over the folds; the networks that ship are not among them."""
    judgements = [judgement for _, judgement in judged]
    folds = summarize_divisions(material, [*judgements, judgements[0]])["folds"]
    assert folds["labels"]["voice"]["runs"] == 2
    accuracies = [each.facts["test"]["labels"]["voice"]["accuracy"] for each in judgements]
    assert folds["labels"]["voice"]["accuracy_mean"] == pytest.approx(np.mean(accuracies), abs=1e-4)
    assert np.sum(folds["labels"]["fusion"]["confusion"]) == 2 * len(FINE)
    assert folds["noise"]["snr_db"] == fold_scores.NOISE_SNR_DB


def test_nothing_is_done_twice(
    material: Material, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call trains and judges nothing; another seed is another network."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError

    division, judgement = judged[0]
    work: Path = judgement.folder.parent
    monkeypatch.setattr(networks, "train_face", refuse)
    monkeypatch.setattr(networks, "train_voice", refuse)
    trained = train_division(material, division, work, NO_BAR)
    assert judge_division(material, division, trained, work).facts == judgement.facts
    facts = trained["voice"].facts
    assert set(facts["people"]) == set(division.fold.people("train") if division.fold else ())
    assert len(facts["curves"]["loss"]) == 1
    assert not list(trained["voice"].folder.glob("*.ckpt"))
    other = Division("fold0-seed1", 1, division.faces, division.voices, division.fold)
    with pytest.raises(AssertionError):
        train_division(material, other, work, NO_BAR)
