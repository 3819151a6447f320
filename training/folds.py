"""RAVDESS, folds over actors: the voice, the face and the two together.

In: recordings, and action units or films of the same takes. Out: figures per fold and seed.
Everybody who is tested is new to all that was trained; temperatures and the fusion network come
from four validation people, who are new to the two networks as well.
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

from ..engines.bundle import LABELS
from ..engines.fusion import calibrate
from ..kernels.spec import MelSpec
from .data.action_units import ActionUnits, pair
from .data.ravdess import EMOTIONS8, TEST_FOLDS, split_actors
from .data.voices import VoiceSet
from .distort import add_noise
from .films import FilmOpinions
from .fusion import FusionRecipe, Pairs, fuse_pairs, train_fusion
from .metrics import fit_temperature, score, summarise
from .models.voice import merge_calm
from .units import UnitsRecipe, read_units, train_units
from .voice import Heard, Speech, VoiceRecipe, hear, prepare_speech, train_voice

log = logging.getLogger(__name__)

NOISE_SNR_DB = 5.0
SOURCES = ("pixels", "units")
"""How a face may be seen, the better first."""
SIZES = {"seven": LABELS, "eight": EMOTIONS8}
"""The product's labels, and those of RAVDESS."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """What the folds are made of."""

    voices: VoiceSet
    units: ActionUnits | None
    films: FilmOpinions | None
    heard: Sequence[NDArray[np.float32]]
    """Noises for training; none, and noise is made up."""
    unheard: Sequence[NDArray[np.float32]]
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
class Side:
    """The people of one side of a fold, as the networks see them."""

    voices: VoiceSet
    heard: Heard
    seen: Mapping[str, NDArray[np.float32]]
    """The face of each recording by "units" or "pixels": log-probabilities (N, 8) or (N, 7)."""


def opinions(logits: NDArray[np.float32], size: str, temperature: float) -> NDArray[np.float32]:
    """Logits of eight emotions (..., 8) -> calibrated log-probabilities of seven or eight."""
    labels = torch.from_numpy(logits)
    labels = merge_calm(labels) if size == "seven" else labels
    return np.asarray(torch.log_softmax(labels / temperature, dim=-1).numpy())


def truth_of(voices: VoiceSet, size: str) -> NDArray[np.int64]:
    return voices.labels if size == "seven" else voices.emotions


def opinions_file(fold: int, seed: int) -> str:
    """Where `judge_fold` leaves what was said of its test people, window by window: calibrated
    log-probabilities (W, 7) of the voice and of the face, by source, and labels (W,)."""
    return f"opinions-fold{fold}-seed{seed}.npz"


def judge_fold(
    material: Material, fold: int, recipes: Recipes, seed: int, work: Path
) -> dict[str, Any]:
    """Train on a fold's training people -> figures on its test people. Kept in `work`: called
    again, it returns what it found before."""
    done = work / f"fold{fold}-seed{seed}.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    learn, validation, test = split_actors(fold)
    voices = material.voices
    index = np.flatnonzero(np.isin(voices.actors, learn))
    voice = train_voice(
        material.speech.of(index),
        material.mel,
        replace(recipes.voice, seed=seed),
        work / f"voice-fold{fold}-seed{seed}.ckpt",
    )
    units_of = None
    if material.units is not None:
        rows = np.flatnonzero(np.isin(material.units.actors, learn))
        units_of = train_units(material.units, rows, replace(recipes.units, seed=seed))

    def look(actors: Sequence[int]) -> Side:
        people = voices.of(actors)
        seen = {}
        if units_of is not None and material.units is not None:
            heard_rows, unit_rows = pair(people, material.units)
            assert len(heard_rows) == len(people.labels)
            seen["units"] = read_units(units_of, material.units.values[unit_rows])
        filmed = material.films.of(people.names) if material.films is not None else None
        if filmed is not None:
            seen["pixels"] = filmed
        return Side(people, hear(voice, people.sounds, material.mel), seen)

    tune, judge = look(validation), look(test)
    figures: dict[str, Any] = {"fold": fold, "seed": seed}
    figures["eight"], _ = _judge_side(tune, judge, "eight", recipes.fusion, seed)
    figures["seven"], heat = _judge_side(tune, judge, "seven", recipes.fusion, seed)
    figures["temperature"] = heat["voice"]
    if material.unheard:
        figures["noise"] = _judge_noise(material, voice, judge.voices, figures["temperature"], fold)
    owner = judge.heard.owner
    source = next((name for name in SOURCES if name in judge.seen), None)
    said: dict[str, Any] = {
        "voice": opinions(judge.heard.logits, "seven", heat["voice"]),
        "labels": judge.voices.labels[owner],
    }
    if source is not None:
        said[source] = opinions(judge.seen[source], "seven", heat[source])[owner]
    np.savez(work / opinions_file(fold, seed), **said)
    done.write_text(json.dumps(figures))
    log.info("fold %d seed %d: %s", fold, seed, _headline(figures))
    return figures


def _judge_side(
    tune: Side, judge: Side, size: str, recipe: FusionRecipe, seed: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Voice, face and fusion with labels of one size -> figures, temperatures."""
    labels = SIZES[size]
    truth, tune_truth = truth_of(judge.voices, size), truth_of(tune.voices, size)
    heat = {
        "voice": fit_temperature(
            opinions(tune.heard.logits, size, 1.0), tune_truth, tune.heard.mean
        )
    }
    heard = opinions(judge.heard.logits, size, heat["voice"])
    figures = {"voice": score(judge.heard.mean(np.exp(heard)), truth, labels)}
    for source in set(judge.seen) & set(tune.seen):
        if judge.seen[source].shape[1] >= len(labels):  # the face network knows no calm
            heat[source] = fit_temperature(opinions(tune.seen[source], size, 1.0), tune_truth)
            figures |= _judge_pairs(tune, judge, source, size, heat, recipe, seed)
    return figures, heat


def _judge_pairs(
    tune: Side,
    judge: Side,
    source: str,
    size: str,
    heat: Mapping[str, float],
    recipe: FusionRecipe,
    seed: int,
) -> dict[str, Any]:
    """The face as `source` shows it, and the fusion of face and voice -> figures by name."""
    labels = SIZES[size]
    truth = truth_of(judge.voices, size)
    prefix = "" if source == "units" else f"{source}_"
    seen = opinions(judge.seen[source], size, heat[source])
    figures = {source: score(np.exp(seen).astype(np.float64), truth, labels)}
    tune_pairs, pairs = (
        Pairs(
            opinions(side.seen[source], size, heat[source])[side.heard.owner][:, None],
            opinions(side.heard.logits, size, heat["voice"]),
            truth_of(side.voices, size)[side.heard.owner],
        )
        for side in (tune, judge)
    )
    fusion = train_fusion(tune_pairs, len(labels), replace(recipe, seed=seed))
    for name, face, voice in (
        ("fusion", True, True),
        ("fusion_without_voice", True, False),
        ("fusion_without_face", False, True),
    ):
        fused, weights = fuse_pairs(fusion, pairs, face, voice)
        found = score(judge.heard.mean(calibrate(fused, 1.0)), truth, labels)
        figures[prefix + name] = {**found, "voice_weight": round(float(weights[:, 1].mean()), 3)}
    floor = judge.heard.mean(0.5 * np.exp(pairs.faces[:, 0]) + 0.5 * np.exp(pairs.voices))
    figures[f"{prefix}late_fusion"] = score(floor, truth, labels)
    return figures


def _judge_noise(
    material: Material, voice: torch.nn.Module, people: VoiceSet, temperature: float, fold: int
) -> dict[str, float]:
    """Accuracy of the voice in noise that training did not hear, and how sure it is of noise in
    which nobody speaks."""
    rng = np.random.default_rng(fold)
    rate_hz = material.mel.sample_rate_hz

    def draw() -> NDArray[np.float32]:
        return material.unheard[int(rng.integers(len(material.unheard)))]

    noisy = [add_noise(s, draw(), NOISE_SNR_DB, rate_hz, rng) for s in people.sounds]
    heard = hear(voice, noisy, material.mel)
    mean = heard.mean(np.exp(opinions(heard.logits, "seven", temperature)).astype(np.float64))
    alone = hear(
        voice, [noise[: material.mel.window_samples] for noise in material.unheard], material.mel
    )
    confidence = np.exp(opinions(alone.logits, "seven", temperature)).max(axis=1)
    return {
        "snr_db": NOISE_SNR_DB,
        "accuracy": float((mean.argmax(axis=1) == people.labels).mean()),
        "noise_only_confidence": float(confidence.mean()),
    }


def _headline(figures: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{size} {name} {found['accuracy']:.3f}"
        for size in SIZES
        for name, found in figures[size].items()
    )


def judge_folds(
    material: Material, recipes: Recipes, num_seeds: int, work: Path
) -> list[dict[str, Any]]:
    """Every fold with every seed."""
    work.mkdir(parents=True, exist_ok=True)
    return [
        judge_fold(material, fold, recipes, seed, work)
        for seed in range(num_seeds)
        for fold in range(len(TEST_FOLDS))
    ]


def summarise_folds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over folds and seeds of each thing that was judged."""
    summary: dict[str, Any] = {
        size: {name: summarise([run[size][name] for run in runs]) for name in runs[0][size]}
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
