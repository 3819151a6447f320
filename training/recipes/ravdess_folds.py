"""RAVDESS, folds over actors: the voice, the face and the two together.

In: recordings, and action units or films of the same takes. Out: figures per fold and seed.
Everybody who is tested is new to all that was trained; temperatures and the fusion network come
from four validation people, who are new to the two networks as well.

What the face network says to the films of RAVDESS: the face's side of the fusion on real
pictures. The network learned from other people, so every actor is new to it.
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
from torch import nn

from ...engines.bundles import LABELS
from ...engines.estimator import calibrate
from ...kernels.spec import ImageSpec, MelSpec
from ..augment import add_noise
from ..data import EMOTIONS8, TEST_FOLDS, ActionUnits, CropSet, VoiceSet, pair, split_actors
from ..metrics import fit_temperature, score, summarize
from ..models import merge_calm
from .action_units import UnitsRecipe, predict_units, train_units
from .face import face_logits
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


@dataclass(frozen=True, slots=True)
class VideoPredictions:
    """N films."""

    recording_ids: list[str]
    """As `Clip.recording_id`."""
    log_probabilities: NDArray[np.float32]
    """(N, 7): of the mean over a film's faces."""

    def select(self, names: Sequence[str]) -> NDArray[np.float32] | None:
        """For recordings by name (M,) -> (M, 7); None unless there is a film of each."""
        row_of = {recording_id: row for row, recording_id in enumerate(self.recording_ids)}
        # A recording's name is its take after the modality: 03-01-...
        rows = [row_of.get(name[3:], -1) for name in names]
        return None if min(rows, default=-1) < 0 else self.log_probabilities[rows]


def predict_videos(
    model: nn.Module, videos: CropSet, size_px: int, spec: ImageSpec
) -> VideoPredictions:
    """Each film through the face network, at `size_px`."""
    num_videos, num_crops = videos.images.shape[:2]
    logits = face_logits(model, videos.images.reshape(-1, *videos.images.shape[2:]), size_px, spec)
    faces = calibrate(logits, 1.0).reshape(num_videos, num_crops, -1)
    recording_ids = [name[3:] for name in videos.names]
    return VideoPredictions(recording_ids, np.log(faces.mean(axis=1)).astype(np.float32))


NOISE_SNR_DB = 5.0
SOURCES = ("pixels", "units")
"""How a face may be seen, the better first."""
SIZES = {"seven": LABELS, "eight": EMOTIONS8}
"""The product's labels, and those of RAVDESS."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FoldData:
    """What the folds are made of."""

    voices: VoiceSet
    units: ActionUnits | None
    films: VideoPredictions | None
    heard: Sequence[NDArray[np.float32]]
    """Noises for training; none, and noise is made up."""
    heldout_noises: Sequence[NDArray[np.float32]]
    """Other noises to judge with; none, and noise is not judged."""
    mel: MelSpec
    recipe: VoiceRecipe

    @cached_property
    def speech(self) -> Speech:
        """Of the same recordings, made when something is trained: it takes minutes."""
        return prepare_speech(self.voices, self.heard, self.mel, self.recipe)


@dataclass(frozen=True, slots=True)
class Recipes:
    voice: VoiceRecipe
    units: UnitsRecipe
    fusion: FusionRecipe


@dataclass(frozen=True, slots=True)
class FoldSplit:
    """The people of one side of a fold, as the networks see them."""

    voices: VoiceSet
    heard: WindowPredictions
    seen: Mapping[str, NDArray[np.float32]]
    """The face of each recording by "units" or "pixels": log-probabilities (N, 8) or (N, 7)."""


def log_probabilities(
    logits: NDArray[np.float32], size: str, temperature: float
) -> NDArray[np.float32]:
    """Logits of eight emotions (..., 8) -> calibrated log-probabilities of seven or eight."""
    labels = torch.from_numpy(logits)
    labels = merge_calm(labels) if size == "seven" else labels
    return np.asarray(torch.log_softmax(labels / temperature, dim=-1).numpy())


def targets_of(voices: VoiceSet, size: str) -> NDArray[np.int64]:
    return voices.labels if size == "seven" else voices.emotions


def predictions_file(fold: int, seed: int) -> str:
    """Where `evaluate_fold` leaves what was said of its test people, window by window: calibrated
    log-probabilities (W, 7) of the voice and of the face, by source, and labels (W,)."""
    return f"opinions-fold{fold}-seed{seed}.npz"


def evaluate_fold(
    fold_data: FoldData, fold: int, recipes: Recipes, seed: int, work: Path
) -> dict[str, Any]:
    """Train on a fold's training people -> figures on its test people. Kept in `work`: called
    again, it returns what it found before."""
    done = work / f"fold{fold}-seed{seed}.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    training, validation, test = split_actors(fold)
    voices = fold_data.voices
    index = np.flatnonzero(np.isin(voices.actors, training))
    voice = train_voice(
        fold_data.speech.select(index),
        fold_data.mel,
        replace(recipes.voice, seed=seed),
        work / f"voice-fold{fold}-seed{seed}.ckpt",
    )
    units_of = None
    if fold_data.units is not None:
        rows = np.flatnonzero(np.isin(fold_data.units.actors, training))
        units_of = train_units(fold_data.units, rows, replace(recipes.units, seed=seed))

    def look(actors: Sequence[int]) -> FoldSplit:
        speakers = voices.select(actors)
        seen = {}
        if units_of is not None and fold_data.units is not None:
            heard_rows, unit_rows = pair(speakers, fold_data.units)
            assert len(heard_rows) == len(speakers.labels)
            seen["units"] = predict_units(units_of, fold_data.units.values[unit_rows])
        video_log_probs = (
            fold_data.films.select(speakers.names) if fold_data.films is not None else None
        )
        if video_log_probs is not None:
            seen["pixels"] = video_log_probs
        return FoldSplit(
            speakers, predict_windows(voice, speakers.audio_clips, fold_data.mel), seen
        )

    validation_split, test_split = look(validation), look(test)
    metrics: dict[str, Any] = {"fold": fold, "seed": seed}
    metrics["eight"], _ = _evaluate_split(
        validation_split, test_split, "eight", recipes.fusion, seed
    )
    metrics["seven"], temperatures = _evaluate_split(
        validation_split, test_split, "seven", recipes.fusion, seed
    )
    metrics["temperature"] = temperatures["voice"]
    if fold_data.heldout_noises:
        metrics["noise"] = _evaluate_noise(
            fold_data, voice, test_split.voices, metrics["temperature"], fold
        )
    recording_index = test_split.heard.recording_index
    source = next((name for name in SOURCES if name in test_split.seen), None)
    predictions: dict[str, Any] = {
        "voice": log_probabilities(test_split.heard.logits, "seven", temperatures["voice"]),
        "labels": test_split.voices.labels[recording_index],
    }
    if source is not None:
        predictions[source] = log_probabilities(
            test_split.seen[source], "seven", temperatures[source]
        )[recording_index]
    np.savez(work / predictions_file(fold, seed), **predictions)
    done.write_text(json.dumps(metrics))
    log.info("fold %d seed %d: %s", fold, seed, _headline(metrics))
    return metrics


def _evaluate_split(
    validation_split: FoldSplit, test_split: FoldSplit, size: str, recipe: FusionRecipe, seed: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Voice, face and fusion with labels of one size -> figures, temperatures."""
    labels = SIZES[size]
    targets, validation_targets = (
        targets_of(test_split.voices, size),
        targets_of(validation_split.voices, size),
    )
    temperatures = {
        "voice": fit_temperature(
            log_probabilities(validation_split.heard.logits, size, 1.0),
            validation_targets,
            validation_split.heard.mean,
        )
    }
    heard = log_probabilities(test_split.heard.logits, size, temperatures["voice"])
    metrics = {"voice": score(test_split.heard.mean(np.exp(heard)), targets, labels)}
    for source in set(test_split.seen) & set(validation_split.seen):
        if test_split.seen[source].shape[1] >= len(labels):  # the face network knows no calm
            temperatures[source] = fit_temperature(
                log_probabilities(validation_split.seen[source], size, 1.0), validation_targets
            )
            metrics |= _evaluate_fusion(
                validation_split, test_split, source, size, temperatures, recipe, seed
            )
    return metrics, temperatures


def _evaluate_fusion(
    validation_split: FoldSplit,
    test_split: FoldSplit,
    source: str,
    size: str,
    temperatures: Mapping[str, float],
    recipe: FusionRecipe,
    seed: int,
) -> dict[str, Any]:
    """The face as `source` shows it, and the fusion of face and voice -> figures by name."""
    labels = SIZES[size]
    targets = targets_of(test_split.voices, size)
    prefix = "" if source == "units" else f"{source}_"
    seen = log_probabilities(test_split.seen[source], size, temperatures[source])
    metrics = {source: score(np.exp(seen).astype(np.float64), targets, labels)}
    validation_pairs, pairs = (
        Pairs(
            log_probabilities(side.seen[source], size, temperatures[source])[
                side.heard.recording_index
            ][:, None],
            log_probabilities(side.heard.logits, size, temperatures["voice"]),
            targets_of(side.voices, size)[side.heard.recording_index],
        )
        for side in (validation_split, test_split)
    )
    fusion = train_fusion(validation_pairs, len(labels), replace(recipe, seed=seed))
    for name, face, voice in (
        ("fusion", True, True),
        ("fusion_without_voice", True, False),
        ("fusion_without_face", False, True),
    ):
        fused, weights = fuse_pairs(fusion, pairs, face, voice)
        found = score(test_split.heard.mean(calibrate(fused, 1.0)), targets, labels)
        metrics[prefix + name] = {**found, "voice_weight": round(float(weights[:, 1].mean()), 3)}
    floor = test_split.heard.mean(0.5 * np.exp(pairs.faces[:, 0]) + 0.5 * np.exp(pairs.voices))
    metrics[f"{prefix}late_fusion"] = score(floor, targets, labels)
    return metrics


def _evaluate_noise(
    fold_data: FoldData, voice: torch.nn.Module, speakers: VoiceSet, temperature: float, fold: int
) -> dict[str, float]:
    """Accuracy of the voice in noise that training did not hear, and how sure it is of noise in
    which nobody speaks."""
    rng = np.random.default_rng(fold)
    rate_hz = fold_data.mel.sample_rate_hz

    def draw() -> NDArray[np.float32]:
        return fold_data.heldout_noises[int(rng.integers(len(fold_data.heldout_noises)))]

    noisy = [add_noise(s, draw(), NOISE_SNR_DB, rate_hz, rng) for s in speakers.audio_clips]
    heard = predict_windows(voice, noisy, fold_data.mel)
    mean = heard.mean(
        np.exp(log_probabilities(heard.logits, "seven", temperature)).astype(np.float64)
    )
    alone = predict_windows(
        voice,
        [noise[: fold_data.mel.window_samples] for noise in fold_data.heldout_noises],
        fold_data.mel,
    )
    confidence = np.exp(log_probabilities(alone.logits, "seven", temperature)).max(axis=1)
    return {
        "snr_db": NOISE_SNR_DB,
        "accuracy": float((mean.argmax(axis=1) == speakers.labels).mean()),
        "noise_only_confidence": float(confidence.mean()),
    }


def _headline(metrics: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{size} {name} {found['accuracy']:.3f}"
        for size in SIZES
        for name, found in metrics[size].items()
    )


def evaluate_folds(
    fold_data: FoldData, recipes: Recipes, num_seeds: int, work: Path
) -> list[dict[str, Any]]:
    """Every fold with every seed."""
    work.mkdir(parents=True, exist_ok=True)
    return [
        evaluate_fold(fold_data, fold, recipes, seed, work)
        for seed in range(num_seeds)
        for fold in range(len(TEST_FOLDS))
    ]


def summarize_folds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over folds and seeds of each thing that was judged."""
    summary: dict[str, Any] = {
        size: {name: summarize([run[size][name] for run in runs]) for name in runs[0][size]}
        for size in SIZES
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
        " validation people; window probabilities averaged over each recording; units: action"
        " units, mean over the clip; pixels: a face network that learned from FER+"
    )
    return summary
