"""Decoded files as examples: film frames, labels, and the names that the voice tells apart.

In: files with their arrays. Out: `FaceExamples` and `VoiceExamples`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..recipe_file import Recipe
from .examples import FaceExamples, VoiceExamples
from .media_files import MediaFile
from .ravdess import EMOTIONS8
from .voices import to_float_audio

Pixels = NDArray[np.uint8]


def make_faces(recipe: Recipe, usable: Sequence[tuple[MediaFile, Pixels]]) -> list[FaceExamples]:
    """Make an example of each different frame of a film, and of each picture."""
    images: list[Pixels] = []
    owners: list[MediaFile] = []
    for file, crops in usable:
        # A short film has the same frame several times.
        frames = [crops[i] for i in range(len(crops)) if i == 0 or (crops[i] != crops[i - 1]).any()]
        images += frames
        owners += [file] * len(frames)
    if not images:
        return []
    labels = np.array([file.label for file in owners], np.int64)
    faces = FaceExamples(
        np.stack(images),
        np.eye(len(recipe.labels), dtype=np.float32)[labels],
        labels,
        tuple(file.person for file in owners),
        tuple(file.split for file in owners),
        tuple(file.recording for file in owners),
    )
    return [faces]


def merge_faces(parts: Sequence[FaceExamples]) -> FaceExamples | None:
    """Join the faces of all data sets. They get the largest size of those to train or validate on:
    FER+ grows to the size of films, and stays as it is beside films of test people."""
    if len(parts) < 2:
        return parts[0] if parts else None
    used = [part for part in parts if set(part.splits) != {"test"}] or parts
    size_px = max(part.images.shape[1] for part in used)
    return FaceExamples(
        np.concatenate([_resize(part.images, size_px) for part in parts]),
        np.concatenate([part.votes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        tuple(person for part in parts for person in part.people),
        tuple(split for part in parts for split in part.splits),
        tuple(recording for part in parts for recording in part.recordings),
    )


def _resize(images: Pixels, size_px: int) -> Pixels:
    if images.shape[1] == size_px:
        return images
    method = cv2.INTER_LINEAR if images.shape[1] < size_px else cv2.INTER_AREA
    resized = np.empty((len(images), size_px, size_px), np.uint8)
    for image, target in zip(images, resized, strict=True):
        cv2.resize(image, (size_px, size_px), dst=target, interpolation=method)
    return resized


def make_voices(
    recipe: Recipe, usable: Sequence[tuple[MediaFile, NDArray[np.int16]]]
) -> VoiceExamples | None:
    if not usable:
        return None
    files = [file for file, _ in usable]
    fine_names, groups = name_fine_labels(recipe, files)
    labels = np.array([file.label for file in files], np.int64)
    fine = (
        labels
        if fine_names == recipe.labels
        else np.array([fine_names.index(file.name) for file in files], np.int64)
    )
    return VoiceExamples(
        [to_float_audio(pcm) for _, pcm in usable],
        labels,
        tuple(file.person for file in files),
        tuple(file.split for file in files),
        tuple(file.recording for file in files),
        fine,
        fine_names,
        groups,
    )


def name_fine_labels(
    recipe: Recipe, files: Sequence[MediaFile]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names that the voice network tells apart, and the label of each: the data's own
    names, those of RAVDESS in their published order, or the labels where each has only one name."""
    alone = (recipe.labels, tuple(range(len(recipe.labels))))
    if recipe.voice is None or not recipe.voice.fine_labels:
        return alone
    found = {file.name: file.label for file in files}
    order = {name: EMOTIONS8.index(name) if name in EMOTIONS8 else len(EMOTIONS8) for name in found}
    names = sorted(found, key=lambda name: (order[name], found[name], name))
    label_of = {name: found[name] for name in names}
    label_of |= {
        label: index for index, label in enumerate(recipe.labels) if index not in label_of.values()
    }
    if len(label_of) == len(recipe.labels):
        return alone
    return tuple(label_of), tuple(label_of.values())
