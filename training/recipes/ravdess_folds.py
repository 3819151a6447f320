"""Cross-validation on RAVDESS: voice, face and fusion on folds over actors.

In: recordings, and action units or videos of the same recordings. Out: metrics per fold and seed.
Test actors are held out from all training. Temperatures and the fusion network are fitted on four
validation actors, who are held out from the voice and the face.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import VotingClassifier
from torch import nn

from ...engines.bundles import LABELS
from ...engines.probabilities import calibrate
from ...engines.storage import atomic_write
from ...kernels.spec import MelSpec
from ..augment import add_noise
from ..data import EMOTION_GROUPS, EMOTIONS8, TEST_FOLDS, ActionUnits, VoiceSet, pair, split_actors
from ..metrics import fit_temperature, score, summarize
from ..models import merge_logits
from .action_units import UnitsRecipe, predict_units, train_units
from .face import VideoPredictions
from .fusion import FusionRecipe, Pairs, fuse_pairs, train_fusion
from .voice import (
    Speech,
    VoiceRecipe,
    WindowPredictions,
    predict_windows,
    prepare_speech,
    train_voice,
)

log = logging.getLogger(__name__)

NOISE_SNR_DB = 5.0
SOURCES = ("pixels", "units")
"""Sources of the face's class probabilities, the better one first."""
LABEL_SETS = {"seven": LABELS, "eight": EMOTIONS8}
"""The labels of the product, and the emotions of RAVDESS."""


@dataclass(frozen=True)
class FoldData:
    """Data of all folds."""

    voices: VoiceSet
    units: ActionUnits | None
    videos: VideoPredictions | None
    training_noises: Sequence[NDArray[np.float32]]
    """Empty for synthetic noise."""
    heldout_noises: Sequence[NDArray[np.float32]]
    """Other noises, for evaluation; empty for no evaluation in noise."""
    mel: MelSpec
    recipe: VoiceRecipe

    @cached_property
    def speech(self) -> Speech:
        """Training data of all recordings, made on first use because it takes minutes."""
        return prepare_speech(self.voices, self.training_noises, self.mel, self.recipe)


@dataclass(frozen=True, slots=True)
class Recipes:
    """Recipes of the networks of a fold."""

    voice: VoiceRecipe
    units: UnitsRecipe
    fusion: FusionRecipe


@dataclass(frozen=True, slots=True)
class FoldSplit:
    """Recordings of one split of a fold, and the predictions of the networks for them."""

    voices: VoiceSet
    windows: WindowPredictions
    faces: Mapping[str, NDArray[np.float32]]
    """Log-probabilities of each recording by source: "pixels" (N, 7), "units" (N, 8)."""

    def targets(self, label_set: str) -> NDArray[np.int64]:
        """Return the targets of the recordings (N,)."""
        return self.voices.labels if label_set == "seven" else self.voices.emotions


def evaluate_folds(
    fold_data: FoldData, recipes: Recipes, num_seeds: int, work: Path
) -> list[dict[str, Any]]:
    """Evaluate every fold with every seed."""
    work.mkdir(parents=True, exist_ok=True)
    return [
        evaluate_fold(fold_data, fold, recipes, seed, work)
        for seed in range(num_seeds)
        for fold in range(len(TEST_FOLDS))
    ]


def evaluate_fold(
    fold_data: FoldData, fold: int, recipes: Recipes, seed: int, work: Path
) -> dict[str, Any]:
    """Train on the training actors of a fold -> metrics on its test actors.

    The metrics are stored in `work`; a further call returns them.
    """
    done = work / f"fold{fold}-seed{seed}.json"
    if done.exists():
        stored: dict[str, Any] = json.loads(done.read_text())
        return stored
    training_actors, validation_actors, test_actors = split_actors(fold)
    voice = train_voice(
        fold_data.speech.select(np.flatnonzero(np.isin(fold_data.voices.actors, training_actors))),
        fold_data.mel,
        replace(recipes.voice, seed=seed),
        work / f"voice-fold{fold}-seed{seed}.ckpt",
    )
    units = None
    if fold_data.units is not None:
        rows = np.flatnonzero(np.isin(fold_data.units.actors, training_actors))
        units = train_units(fold_data.units, rows, replace(recipes.units, seed=seed))
    validation = _predict_split(fold_data, validation_actors, voice, units)
    test = _predict_split(fold_data, test_actors, voice, units)
    metrics: dict[str, Any] = {"fold": fold, "seed": seed}
    metrics["eight"], _ = _evaluate_split(validation, test, "eight", recipes.fusion, seed)
    metrics["seven"], temperatures = _evaluate_split(
        validation, test, "seven", recipes.fusion, seed
    )
    metrics["temperature"] = temperatures["voice"]
    if fold_data.heldout_noises:
        metrics["noise"] = _evaluate_noise(
            fold_data, voice, test.voices, temperatures["voice"], fold
        )
    _save_predictions(work / predictions_file(fold, seed), test, temperatures)
    atomic_write(done, json.dumps(metrics).encode())
    log.info("fold %d seed %d: %s", fold, seed, _format_accuracies(metrics))
    return metrics


def summarize_folds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and spread over folds and seeds of all metrics."""
    summary: dict[str, Any] = {
        name: {key: summarize([run[name][key] for run in runs]) for key in runs[0][name]}
        for name in LABEL_SETS
    }
    if "noise" in runs[0]:
        clean = [run["seven"]["voice"]["accuracy"] for run in runs]
        noisy = [run["noise"]["accuracy"] for run in runs]
        summary["noise"] = {
            "snr_db": NOISE_SNR_DB,
            "accuracy_mean": round(float(np.mean(noisy)), 4),
            "points_lost": round(100 * float(np.mean(clean) - np.mean(noisy)), 2),
            "noise_only_confidence": round(
                float(np.mean([run["noise"]["noise_only_confidence"] for run in runs])), 4
            ),
        }
    summary["seeds"] = len({run["seed"] for run in runs})
    summary["protocol"] = (
        "subject-independent folds of training/data/ravdess.py; temperatures and fusion from four"
        " validation actors; window probabilities averaged over each recording; units: action"
        " units, mean over the clip; pixels: a face network trained on FER+"
    )
    return summary


def predictions_file(fold: int, seed: int) -> str:
    """Return the name of the file with the predictions for the test actors of a fold.

    Its arrays, by window: calibrated log-probabilities (W, 7) of the voice and of one source of
    the face, and labels (W,).
    """
    return f"opinions-fold{fold}-seed{seed}.npz"


def log_probabilities(
    logits: NDArray[np.float32], label_set: str, temperature: float
) -> NDArray[np.float32]:
    """Calibrate logits of eight emotions (..., 8) -> log-probabilities of seven or eight labels."""
    scores = torch.from_numpy(logits)
    if label_set == "seven" and logits.shape[-1] == len(EMOTION_GROUPS):
        scores = merge_logits(scores, EMOTION_GROUPS, len(LABELS))
    return np.asarray(torch.log_softmax(scores / temperature, dim=-1).numpy())


def _predict_split(
    fold_data: FoldData, actors: Sequence[int], voice: nn.Module, units: VotingClassifier | None
) -> FoldSplit:
    voices = fold_data.voices.select(actors)
    faces = {}
    if units is not None and fold_data.units is not None:
        voice_rows, unit_rows = pair(voices, fold_data.units)
        assert len(voice_rows) == len(voices.labels)
        faces["units"] = predict_units(units, fold_data.units.values[unit_rows])
    pixels = fold_data.videos.select(voices.names) if fold_data.videos is not None else None
    if pixels is not None:
        faces["pixels"] = pixels
    return FoldSplit(voices, predict_windows(voice, voices.audio_clips, fold_data.mel), faces)


def _evaluate_split(
    validation: FoldSplit, test: FoldSplit, label_set: str, recipe: FusionRecipe, seed: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Evaluate voice, face and fusion on one set of labels -> metrics, temperatures."""
    labels = LABEL_SETS[label_set]
    validation_targets = validation.targets(label_set)
    temperatures = {
        "voice": fit_temperature(
            log_probabilities(validation.windows.logits, label_set, 1.0),
            validation_targets,
            validation.windows.mean,
        )
    }
    voice = log_probabilities(test.windows.logits, label_set, temperatures["voice"])
    voice_mean = test.windows.mean(np.exp(voice))
    metrics = {"voice": score(voice_mean, test.targets(label_set), labels)}
    for source in SOURCES:
        if source not in test.faces or source not in validation.faces:
            continue
        # The face network has no output for calm.
        if test.faces[source].shape[1] >= len(labels):
            temperatures[source] = fit_temperature(
                log_probabilities(validation.faces[source], label_set, 1.0), validation_targets
            )
            metrics |= _evaluate_fusion(
                validation, test, source, label_set, temperatures, recipe, seed
            )
    return metrics, temperatures


def _evaluate_fusion(
    validation: FoldSplit,
    test: FoldSplit,
    source: str,
    label_set: str,
    temperatures: Mapping[str, float],
    recipe: FusionRecipe,
    seed: int,
) -> dict[str, Any]:
    """Evaluate the face by `source`, and its fusion with the voice -> metrics by name."""
    labels, targets = LABEL_SETS[label_set], test.targets(label_set)
    prefix = "" if source == "units" else f"{source}_"
    face = log_probabilities(test.faces[source], label_set, temperatures[source])
    metrics = {source: score(np.exp(face).astype(np.float64), targets, labels)}
    validation_pairs, pairs = (
        _make_pairs(split, source, label_set, temperatures) for split in (validation, test)
    )
    fusion = train_fusion(validation_pairs, len(labels), replace(recipe, seed=seed))
    for name, with_face, with_voice in (
        ("fusion", True, True),
        ("fusion_without_voice", True, False),
        ("fusion_without_face", False, True),
    ):
        logits, weights = fuse_pairs(fusion, pairs, with_face, with_voice)
        scores = score(test.windows.mean(calibrate(logits, 1.0)), targets, labels)
        metrics[prefix + name] = {**scores, "voice_weight": round(float(weights[:, 1].mean()), 3)}
    mean = test.windows.mean(0.5 * np.exp(pairs.faces[:, 0]) + 0.5 * np.exp(pairs.voices))
    metrics[f"{prefix}late_fusion"] = score(mean, targets, labels)
    return metrics


def _make_pairs(
    split: FoldSplit, source: str, label_set: str, temperatures: Mapping[str, float]
) -> Pairs:
    """Pair each window of the voice with the face of its recording."""
    index = split.windows.recording_index
    faces = log_probabilities(split.faces[source], label_set, temperatures[source])
    return Pairs(
        faces[index][:, None],
        log_probabilities(split.windows.logits, label_set, temperatures["voice"]),
        split.targets(label_set)[index],
    )


def _evaluate_noise(
    fold_data: FoldData, voice: nn.Module, voices: VoiceSet, temperature: float, fold: int
) -> dict[str, float]:
    """Return the accuracy of the voice in held-out noise, and the confidence in noise alone."""
    rng = np.random.default_rng(fold)
    rate_hz = fold_data.mel.sample_rate_hz

    def draw() -> NDArray[np.float32]:
        return fold_data.heldout_noises[int(rng.integers(len(fold_data.heldout_noises)))]

    noisy = [add_noise(audio, draw(), NOISE_SNR_DB, rate_hz, rng) for audio in voices.audio_clips]
    windows = predict_windows(voice, noisy, fold_data.mel)
    probabilities = np.exp(log_probabilities(windows.logits, "seven", temperature))
    mean = windows.mean(probabilities.astype(np.float64))
    noise_windows = predict_windows(
        voice,
        [noise[: fold_data.mel.window_samples] for noise in fold_data.heldout_noises],
        fold_data.mel,
    )
    noise_probabilities = np.exp(log_probabilities(noise_windows.logits, "seven", temperature))
    return {
        "snr_db": NOISE_SNR_DB,
        "accuracy": float((mean.argmax(axis=1) == voices.labels).mean()),
        "noise_only_confidence": float(noise_probabilities.max(axis=1).mean()),
    }


def _save_predictions(path: Path, test: FoldSplit, temperatures: Mapping[str, float]) -> None:
    """Write the file that `predictions_file` describes."""
    index = test.windows.recording_index
    arrays: dict[str, Any] = {
        "voice": log_probabilities(test.windows.logits, "seven", temperatures["voice"]),
        "labels": test.voices.labels[index],
    }
    source = next((name for name in SOURCES if name in temperatures), None)
    if source is not None:
        faces = log_probabilities(test.faces[source], "seven", temperatures[source])
        arrays[source] = faces[index]
    np.savez(path, **arrays)


def _format_accuracies(metrics: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{label_set} {name} {scores['accuracy']:.3f}"
        for label_set in LABEL_SETS
        for name, scores in metrics[label_set].items()
    )
