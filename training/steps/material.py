"""What the steps of a recipe work on: the corpus, divided into people to train, validate and test.

In: a recipe and its corpus. Out: `Material`, and a `Division` for each set of networks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.config_file import ConfigError
from ..data import (
    Corpus,
    FaceExamples,
    FeatureCache,
    Fold,
    VoiceExamples,
    load_corpus,
    load_noises,
)
from ..recipe_file import Recipe
from ..recipes import Speech, prepare_speech
from .settings import make_face_recipe, make_voice_recipe
from .work_folder import hash_content

log = logging.getLogger(__name__)

Indices = NDArray[np.intp]
Audio = NDArray[np.float32]
SHIPS = "ships"
"""Name of the division whose networks are in the bundle."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Indices of the examples to train on, to validate on and to test."""

    train: Indices
    valid: Indices
    test: Indices


@dataclass(frozen=True, slots=True)
class Division:
    """Who trains one set of networks, and who scores it."""

    name: str
    seed: int
    faces: Parts | None
    voices: Parts | None
    fold: Fold | None = None


@dataclass(frozen=True)
class Material:
    """A recipe with its data in memory."""

    recipe: Recipe
    corpus: Corpus
    training_noises: Sequence[Audio]
    """Empty for synthetic noise."""
    heldout_noises: Sequence[Audio]
    """Other noises, for the folds; empty for no evaluation in noise."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What several divisions share, by a hash of what it depends on."""

    @cached_property
    def digest(self) -> str:
        """Hash of all examples."""
        faces, voices, units = self.corpus.faces, self.corpus.voices, self.corpus.units
        parts: list[object] = []
        if faces is not None:
            parts += [faces.images, faces.votes, faces.labels, faces.people, faces.splits]
            parts += [faces.recordings]
        if voices is not None:
            parts += [voices.audio_clips, voices.fine_labels, voices.groups, voices.people]
            parts += [voices.splits, voices.recordings]
        if units is not None:
            parts += [units.values, units.emotions, units.recording_ids]
        return hash_content(*parts)

    @property
    def faces(self) -> FaceExamples:
        assert self.corpus.faces is not None
        return self.corpus.faces

    @property
    def voices(self) -> VoiceExamples:
        assert self.corpus.voices is not None
        return self.corpus.voices

    @cached_property
    def speech(self) -> Speech:
        """Training data of all recordings, made on first use because it takes minutes. It serves
        every division: recordings are independent."""
        recipe, voices = self.recipe, self.voices
        assert recipe.voice is not None
        return prepare_speech(
            voices.audio_clips,
            voices.fine_labels,
            len(voices.fine_names),
            self.training_noises,
            recipe.mel,
            make_voice_recipe(recipe.voice, seed=0),
        )


def prepare_material(recipe: Recipe) -> Material:
    """Decode and check all data. Raises DatasetError, ConfigError."""
    warn_of_sizes(recipe)
    corpus = load_corpus(recipe, FeatureCache(recipe.cache))
    if recipe.fusion is not None and recipe.fusion.kind == "channel" and corpus.folds:
        raise ConfigError(
            "fusion.kind is 'channel' and people.protocol 'folds', allowed: attention with folds,"
            " or channel with split: channel attention reads embeddings, and those of the folds'"
            " networks differ from those of the networks that ship"
        )
    if not recipe.noise:
        return Material(recipe, corpus, (), ())
    rate_hz = recipe.mel.sample_rate_hz
    training, heldout = (load_noises(Path(recipe.noise), part, rate_hz) for part in (True, False))
    return Material(recipe, corpus, training, heldout)


def warn_of_sizes(recipe: Recipe) -> None:
    """Log levels whose face image is smaller or larger than all that the network is trained on."""
    if recipe.face is None:
        return
    trained_px = make_face_recipe(recipe.face, 0).trained_px
    for level in recipe.levels:
        if not trained_px[0] <= level.face_px <= trained_px[-1]:
            log.warning(
                "level %s has faces of %d px: the network is trained at %s px (face.rounds)",
                level.name,
                level.face_px,
                ", ".join(map(str, trained_px)),
            )


def list_divisions(material: Material) -> list[Division]:
    """Return the divisions of the folds, each with every seed, then the one that ships."""
    corpus, seeds = material.corpus, range(material.recipe.seeds)
    divisions = [
        _divide(corpus, f"fold{number}-seed{seed}", seed, fold)
        for seed in seeds
        for number, fold in enumerate(corpus.folds)
    ]
    if not corpus.folds:
        divisions = [_divide(corpus, f"split-seed{seed}", seed, None) for seed in seeds if seed]
    return [*divisions, _divide(corpus, SHIPS, 0, None)]


def _divide(corpus: Corpus, name: str, seed: int, fold: Fold | None) -> Division:
    faces, voices = corpus.faces, corpus.voices
    return Division(
        name,
        seed,
        None if faces is None else _find_parts(faces, fold),
        None if voices is None else _find_parts(voices, fold),
        fold,
    )


def _find_parts(examples: FaceExamples | VoiceExamples, fold: Fold | None) -> Parts:
    own = fold.divide(examples.people, examples.splits) if fold else examples.splits
    splits = np.array(own)
    return Parts(*(np.flatnonzero(splits == name) for name in ("train", "valid", "test")))
