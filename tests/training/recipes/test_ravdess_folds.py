"""Folds: held-out speakers, stored metrics, and their summary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.action_units import UNITS, ActionUnits
from emotion_edge.training.data.ravdess import TEST_FOLDS
from emotion_edge.training.data.voices import VoiceSet
from emotion_edge.training.recipes import ravdess_folds as module
from emotion_edge.training.recipes.action_units import UnitsRecipe
from emotion_edge.training.recipes.face import VideoPredictions
from emotion_edge.training.recipes.fusion import FusionRecipe
from emotion_edge.training.recipes.ravdess_folds import (
    FoldData,
    Recipes,
    evaluate_fold,
    evaluate_folds,
    log_probabilities,
    summarize_folds,
)
from emotion_edge.training.recipes.voice import VoiceRecipe

SPEC = MelSpec()
RECIPES = Recipes(
    VoiceRecipe(num_epochs=1, num_members=1, num_variants=1, batch_size=8, crop_frames=96),
    UnitsRecipe(num_trees=5),
    FusionRecipe(num_epochs=1, batch_size=8),
)
LABEL_OF = (6, 6, 3, 4, 0, 2, 1, 5)
"""Index in `LABELS` of each of the eight emotions."""


@pytest.fixture(scope="module")
def fold_data() -> FoldData:
    """Four recordings of every actor of the folds; each emotion has its own tone and unit."""
    rng = np.random.default_rng(0)
    n = np.arange(16_000)
    audio_clips, names, values = [], [], []
    emotions, actors = [], []
    for actor in (actor for fold in TEST_FOLDS for actor in fold):
        for repetition in range(4):
            emotion = (2 * repetition + actor) % 8
            tone = 0.2 * np.sin(2 * np.pi * 200 * 1.4**emotion * n / 16_000)
            audio_clips.append((tone + 0.01 * rng.standard_normal(len(n))).astype(np.float32))
            names.append(f"03-01-{emotion + 1:02}-01-01-0{repetition}-{actor:02}")
            row = rng.uniform(0, 0.5, 35)
            row[emotion] += 2
            values.append(row)
            emotions.append(emotion)
            actors.append(actor)
    labels = np.array(LABEL_OF)[emotions]
    voices = VoiceSet(audio_clips, labels, np.array(emotions), np.array(actors), names)
    units = ActionUnits(
        list(UNITS),
        [name[3:] for name in names],
        np.array(values, np.float32),
        voices.emotions,
        labels,
        voices.actors,
    )
    noise = rng.standard_normal(60_000).astype(np.float32) * 0.1
    videos = VideoPredictions(
        units.recording_ids, np.log(units.values[:, :7] / units.values[:, :7].sum(1)[:, None])
    )
    return FoldData(voices, units, videos, [], [noise], SPEC, RECIPES.voice)


def test_fold(fold_data: FoldData, tmp_path: Path) -> None:
    """Both label sets; fusion of a single modality equals it; the metrics are stored."""
    metrics = evaluate_fold(fold_data, 0, RECIPES, 0, tmp_path)
    for size, count in (("seven", 7), ("eight", 8)):
        scores = metrics[size]
        fusion = {"fusion", "fusion_without_voice", "fusion_without_face", "late_fusion"}
        pixels = {"pixels", *(f"pixels_{name}" for name in fusion)} if size == "seven" else set()
        assert set(scores) == {"voice", "units", *fusion, *pixels}
        assert scores["voice"]["n"] == 4 * len(TEST_FOLDS[0])
        assert len(scores["voice"]["labels"]) == count
        assert scores["fusion_without_face"]["accuracy"] == scores["voice"]["accuracy"]
        assert scores["fusion_without_voice"]["accuracy"] == scores["units"]["accuracy"]
    assert metrics["noise"]["snr_db"] == 5
    assert 1 / 7 <= metrics["noise"]["noise_only_confidence"] <= 1
    with np.load(tmp_path / "opinions-fold0-seed0.npz") as arrays:
        assert set(arrays) == {"voice", "pixels", "labels"}, (
            "videos take precedence over action units"
        )
        assert arrays["voice"].shape == arrays["pixels"].shape == (len(arrays["labels"]), 7)
        np.testing.assert_allclose(np.exp(arrays["pixels"]).sum(axis=1), 1.0, rtol=1e-4)
    file = tmp_path / "fold0-seed0.json"
    file.write_text(json.dumps({**metrics, "seed": "stored"}))
    assert evaluate_fold(fold_data, 0, RECIPES, 0, tmp_path)["seed"] == "stored"


def test_test_speakers_are_held_out(
    fold_data: FoldData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only recordings and action units of training actors reach the training functions."""
    without_noise = replace(fold_data, videos=None, heldout_noises=[])
    trained_on: list[set[int]] = []
    train_voice, train_units = module.train_voice, module.train_units

    def watch_voice(speech, *args):  # type: ignore[no-untyped-def]
        variants = {id(recording) for recording in speech.variants}
        owners = zip(without_noise.speech.variants, fold_data.voices.actors, strict=True)
        trained_on.append({int(actor) for recording, actor in owners if id(recording) in variants})
        return train_voice(speech, *args)

    def watch_units(units, index, *args):  # type: ignore[no-untyped-def]
        trained_on.append({int(actor) for actor in units.actors[index]})
        return train_units(units, index, *args)

    monkeypatch.setattr(module, "train_voice", watch_voice)
    monkeypatch.setattr(module, "train_units", watch_units)
    for fold, test in enumerate(TEST_FOLDS):
        trained_on.clear()
        evaluate_fold(without_noise, fold, RECIPES, 0, tmp_path)
        assert len(trained_on) == 2
        for actors in trained_on:
            assert len(actors) == 11
            assert not actors & {*test, *TEST_FOLDS[(fold + 1) % 4][:4]}


def test_summary(fold_data: FoldData, tmp_path: Path) -> None:
    """Each actor is tested once per seed; means are over the folds."""
    runs = evaluate_folds(fold_data, RECIPES, 1, tmp_path)
    summary = summarize_folds(runs)
    assert np.sum(summary["seven"]["voice"]["confusion"]) == 80
    assert np.sum(summary["eight"]["fusion"]["confusion"]) == 80
    accuracies = [run["eight"]["units"]["accuracy"] for run in runs]
    assert summary["eight"]["units"]["accuracy_mean"] == pytest.approx(
        np.mean(accuracies), abs=1e-4
    )
    assert summary["seeds"] == 1
    lost = summary["noise"]["points_lost"]
    clean = summary["seven"]["voice"]["accuracy_mean"]
    assert lost == pytest.approx(100 * (clean - summary["noise"]["accuracy_mean"]), abs=0.03)


def test_voice_alone(fold_data: FoldData, tmp_path: Path) -> None:
    """Without action units and with videos of the test actors only, there is no fusion."""
    assert fold_data.videos is not None
    names = fold_data.voices.select(TEST_FOLDS[1]).names
    predictions = fold_data.videos.select(names)
    assert predictions is not None
    videos = VideoPredictions([name[3:] for name in names], predictions)
    voice_only = replace(fold_data, units=None, videos=videos, heldout_noises=[])
    metrics = evaluate_fold(voice_only, 1, RECIPES, 0, tmp_path)
    assert set(metrics["seven"]) == {"voice"}
    assert "noise" not in metrics


def test_calibrated_log_probabilities() -> None:
    """Calm is added to neutral; a higher temperature flattens."""
    logits = np.log(np.array([[0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]], np.float32))
    seven = np.exp(log_probabilities(logits, "seven", 1.0))[0]
    assert seven[6] == pytest.approx(0.5, abs=1e-5)
    assert seven.sum() == pytest.approx(1.0, abs=1e-5)
    eight = np.exp(log_probabilities(logits, "eight", 2.0))[0]
    assert eight[1] / eight[0] == pytest.approx((0.3 / 0.2) ** 0.5, rel=1e-4)
