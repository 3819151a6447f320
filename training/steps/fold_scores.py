"""Scores of a fold that only its own networks can have: fusion of the two modalities, and noise.

In: opinions on the validation and the test people. Out: metrics of the test people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..augment import add_noise
from ..data import EMOTIONS8
from ..metrics import score
from ..models import VoiceNet
from ..recipes import fuse_pairs, train_fusion
from .material import Division, Material
from .opinions import FACE, UNITS, VOICE, Opinions, Split, judge_voices
from .pairing import pair_recordings
from .settings import make_fusion_recipe

NOISE_SNR_DB = 5.0
KEPT = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece", "n", "confusion")


def score_all(
    material: Material, split: Split, temperatures: Mapping[str, float]
) -> dict[str, Any]:
    return {
        source: _score(material, each, each.mean(each.probabilities(temperatures[source], num)))
        for source, each in split.items()
        if source in temperatures
        for num in [_count_labels(material, each)]
    }


def _score(material: Material, opinions: Opinions, rows: NDArray[np.float64]) -> dict[str, Any]:
    metrics = score(rows, opinions.targets, _name_labels(material, opinions))
    return {name: metrics[name] for name in KEPT}


def _count_labels(material: Material, opinions: Opinions) -> int:
    return len(_name_labels(material, opinions))


def _name_labels(material: Material, opinions: Opinions) -> tuple[str, ...]:
    own = tuple(range(len(opinions.groups))) == opinions.groups
    finer = len(opinions.groups) > len(material.recipe.labels)
    return material.voices.fine_names if own and finer else material.recipe.labels


def refine(material: Material, split: Split) -> Split | None:
    """Return the opinions on the data's own names, of the sources that tell them apart; None when
    the names are the labels."""
    finer: Split = {}
    for source in (VOICE, UNITS):
        each = split.get(source)
        if each is None or each.fine_targets is None:
            continue
        own = tuple(range(len(each.groups)))
        finer[source] = replace(each, groups=own, targets=each.fine_targets, fine_targets=None)
    if VOICE not in finer or finer[VOICE].logits.shape[1] != len(material.voices.fine_names):
        return None
    if UNITS in finer:
        finer[UNITS] = _reorder(finer[UNITS], material)
        if finer[UNITS].logits.shape[1] != len(material.voices.fine_names):
            del finer[UNITS]
    return finer


def _reorder(units: Opinions, material: Material) -> Opinions:
    """Return the opinions with the columns in the order of the voice's names."""
    names = material.voices.fine_names
    if set(names) != set(EMOTIONS8) or units.logits.shape[1] != len(EMOTIONS8):
        return replace(units, logits=units.logits[:, :0])
    order = [EMOTIONS8.index(name) for name in names]
    place = np.argsort(order)
    return replace(units, logits=units.logits[:, order], targets=place[units.targets])


def score_fusions(
    material: Material,
    division: Division,
    valid: Split,
    test: Split,
    temperatures: Mapping[str, float],
) -> dict[str, Any]:
    """Train fusion on the validation people for each source of the face that shares recordings with
    the voice, and score it on the test people."""
    section = material.recipe.fusion
    if section is None or VOICE not in valid or VOICE not in test:
        return {}
    num_labels = _count_labels(material, test[VOICE])
    metrics: dict[str, Any] = {}
    for source in (FACE, UNITS):
        if source not in valid or source not in test:
            continue
        both = {FACE: temperatures[source], VOICE: temperatures[VOICE]}
        paired = [
            pair_recordings(split[source], split[VOICE], section.kind, both, num_labels)
            for split in (valid, test)
        ]
        if paired[0] is None or paired[1] is None:
            continue
        settings = make_fusion_recipe(section, division.seed, len(paired[0][0].labels))
        model = train_fusion(paired[0][0], num_labels, settings)
        pairs, recording_of = paired[1]
        prefix = "" if source == FACE else f"{source}_"
        for name, with_face, with_voice in (
            ("fusion", True, True),
            ("fusion_without_voice", True, False),
            ("fusion_without_face", False, True),
        ):
            logits, weights = fuse_pairs(model, pairs, with_face, with_voice)
            rows = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
            metrics[prefix + name] = {
                **_score_pairs(material, test[VOICE], rows, recording_of),
                "voice_weight": round(float(weights[:, 1].mean()), 3),
            }
        if section.kind == "attention":
            rows = 0.5 * np.exp(pairs.faces[:, 0]) + 0.5 * np.exp(pairs.voices)
            late = _score_pairs(material, test[VOICE], rows, recording_of)
            metrics[f"{prefix}late_fusion"] = late
    return metrics


def _score_pairs(
    material: Material,
    voice: Opinions,
    rows: NDArray[Any],
    recording_of: NDArray[np.int64],
) -> dict[str, Any]:
    """Score rows (W, L) of the recordings that have both modalities."""
    own, place = np.unique(recording_of, return_inverse=True)
    opinions = replace(voice, example_of=place, targets=voice.targets[own])
    return _score(material, opinions, opinions.mean(np.asarray(rows, np.float64)))


def score_noise(
    material: Material, division: Division, model: VoiceNet, temperature: float
) -> dict[str, float]:
    """Return the accuracy of the voice in held-out noise, and its confidence in noise alone."""
    assert division.voices is not None
    mel, index, noises = material.recipe.mel, division.voices.test, material.heldout_noises
    rng = np.random.default_rng(int(division.name.partition("-")[0].removeprefix("fold")))
    noisy = [
        add_noise(
            material.voices.audio_clips[i],
            noises[int(rng.integers(len(noises)))],
            NOISE_SNR_DB,
            mel.sample_rate_hz,
            rng,
        )
        for i in index
    ]
    num_labels = len(material.recipe.labels)
    opinions = judge_voices(model, material, index, noisy)
    mean = opinions.mean(opinions.probabilities(temperature, num_labels))
    clips = [noise[: mel.window_samples] for noise in noises]
    alone = judge_voices(model, material, index[:0], clips)
    return {
        "snr_db": NOISE_SNR_DB,
        "accuracy": float((mean.argmax(axis=1) == opinions.targets).mean()),
        "noise_only_confidence": float(
            alone.probabilities(temperature, num_labels).max(axis=1).mean()
        ),
    }
