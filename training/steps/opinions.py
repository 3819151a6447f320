"""What the networks of a division say about people they were not trained on.

In: a network and examples. Out: `Opinions`: outputs for several faces or windows of each example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...engines.probabilities import calibrate
from ..data import name_actor
from ..metrics import fit_temperature
from ..models import FaceNet, MirrorAveraged, merge_logits
from ..recipes import UnitsRecipe, predict_units, predict_windows, prepare_faces, train_units
from .material import Indices, Material

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
BATCH = 256
FACE, VOICE, UNITS = "face", "voice", "units"
"""Sources of opinions; units are action units, which stand for a face in the folds."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """Outputs of a network for M faces or windows of N examples."""

    embeddings: Float32
    """(M, D)."""
    logits: Float32
    """(M, K)."""
    groups: tuple[int, ...]
    """The recipe's label of each of the K values."""
    example_of: NDArray[np.int64]
    """(M,), index of the example."""
    targets: NDArray[np.int64]
    """(N,), the recipe's label."""
    recordings: tuple[str, ...]
    """(N,), "" for a picture."""
    people: tuple[str, ...]
    """(N,)."""
    fine_targets: NDArray[np.int64] | None = None
    """(N,), column of `logits`, where these are finer than the labels."""

    def merged(self, num_labels: int) -> Float32:
        """Return the logits of the recipe's labels (M, L)."""
        merged = merge_logits(torch.from_numpy(self.logits), self.groups, num_labels)
        return np.asarray(merged.numpy(), np.float32)

    def mean(self, rows: Float64) -> Float64:
        """Average rows (M, L) over each example -> (N, L)."""
        total = np.zeros((len(self.targets), rows.shape[1]))
        np.add.at(total, self.example_of, rows)
        counts = np.bincount(self.example_of, minlength=len(self.targets))
        return np.asarray(total / np.maximum(counts, 1)[:, None])

    def fit(self, num_labels: int) -> float:
        """Fit the temperature; 1 without examples."""
        if not len(self.targets):
            return 1.0
        return fit_temperature(self.merged(num_labels), self.targets, self.mean)

    def probabilities(self, temperature: float, num_labels: int) -> Float64:
        """Return the calibrated probabilities of the faces or windows (M, L)."""
        return calibrate(self.merged(num_labels), temperature)


Split = dict[str, Opinions]
"""Opinions on the people of a part, by source."""


@torch.no_grad()
def judge_faces(model: FaceNet, material: Material, index: Indices) -> Opinions:
    """Run a face network on the faces `index` that have a label; those of one recording are one
    example. The image size is that of the best level, both sides are averaged as in the bundle."""
    recipe, faces = material.recipe, material.faces
    index = index[faces.labels[index] >= 0]
    network, size_px = MirrorAveraged(model).eval(), recipe.levels[0].face_px
    parts = [
        network(prepare_faces(faces.images[index[start : start + BATCH]], size_px, recipe.image))
        for start in range(0, len(index), BATCH)
    ]
    first: dict[str, int] = {}
    example_of, rows = [], []
    for i in index:
        name = faces.recordings[i] or f"\0{i}"
        if name not in first:
            first[name] = len(first)
            rows.append(i)
        example_of.append(first[name])
    chosen = np.array(rows, np.intp)
    return Opinions(
        _join([part[0] for part in parts], model.classifier.in_features),
        _join([part[1] for part in parts], len(recipe.labels)),
        tuple(range(len(recipe.labels))),
        np.array(example_of, np.int64),
        faces.labels[chosen],
        tuple(faces.recordings[i] for i in chosen),
        tuple(faces.people[i] for i in chosen),
    )


def judge_voices(
    model: nn.Module,
    material: Material,
    index: Indices,
    audio_clips: Sequence[Float32] | None = None,
) -> Opinions:
    """Run a voice network on every window of the recordings `index`, or of `audio_clips` in their
    place."""
    voices = material.voices
    clips = [voices.audio_clips[i] for i in index] if audio_clips is None else audio_clips
    people = tuple(voices.people[i] for i in index)
    recordings = tuple(voices.recordings[i] for i in index)
    fine = voices.fine_labels[index] if len(voices.groups) > len(material.recipe.labels) else None
    if not clips:
        empty = np.empty((0, len(voices.groups)), np.float32)
        none = np.empty(0, np.int64)
        return Opinions(empty, empty, voices.groups, none, none, recordings, people, fine)
    windows = predict_windows(model, clips, material.recipe.mel)
    return Opinions(
        windows.embeddings,
        windows.logits,
        voices.groups,
        windows.recording_index,
        voices.labels[index],
        recordings,
        people,
        fine,
    )


def judge_units(
    material: Material, train: Sequence[str], people: Sequence[str], seed: int
) -> Opinions:
    """Train a classifier of action units on the people `train`, and run it on those of `people`."""
    units = material.corpus.units
    assert units is not None
    label_of = dict(zip(units.emotions.tolist(), units.labels.tolist(), strict=True))
    columns = sorted(label_of)
    groups = tuple(label_of[column] for column in columns)
    persons = np.array([name_actor(actor) for actor in units.actors.tolist()])
    rows = np.flatnonzero(np.isin(persons, train))
    model = train_units(units, rows, UnitsRecipe(seed=seed))
    chosen = np.flatnonzero(np.isin(persons, people))
    logits = predict_units(model, units.values[chosen])[:, columns]
    emotion = {column: place for place, column in enumerate(columns)}
    fine = np.array([emotion[value] for value in units.emotions[chosen].tolist()], np.int64)
    return Opinions(
        logits,
        logits,
        groups,
        np.arange(len(chosen)),
        np.array(groups, np.int64)[fine],
        tuple(f"ravdess:{units.recording_ids[i]}" for i in chosen),
        tuple(persons[chosen].tolist()),
        fine if len(groups) > len(material.recipe.labels) else None,
    )


def _join(parts: Sequence[torch.Tensor], width: int) -> Float32:
    if not parts:
        return np.empty((0, width), np.float32)
    return np.asarray(torch.cat(list(parts)).numpy(), np.float32)
