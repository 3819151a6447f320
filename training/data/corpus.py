"""The corpus of a recipe: all of its data sets, decoded, merged and checked.

In: a recipe and the cache. Out: a `Corpus`, or a DatasetError that names what is missing before
anything is trained.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...engines.face_detector import open_detector
from ..errors import DatasetError
from ..recipe_file import DataSection, Recipe
from .cache import FeatureCache
from .crops import image_recipe, video_recipe
from .examples import Corpus, FaceExamples, VoiceExamples, select_fold
from .label_names import LabelNames
from .media_files import Listing, MediaFile, decode_files, list_folder
from .ravdess import EMOTIONS8
from .voices import audio_recipe, to_float_audio

__all__ = ["Corpus", "FaceExamples", "VoiceExamples", "list_corpus", "load_corpus", "select_fold"]

log = logging.getLogger(__name__)


def load_corpus(recipe: Recipe, cache: FeatureCache | None) -> Corpus:
    """Load all data sets of a recipe. Raises DatasetError."""
    listing = list_corpus(recipe)
    skipped = list(listing.skipped)
    faces, voices = None, None
    num_files = len(listing.faces) * bool(recipe.face) + len(listing.voices) * bool(recipe.voice)
    with tqdm(total=num_files, unit="file", leave=False, disable=None) as progress:
        if recipe.voice is not None and listing.voices:
            usable, problems = decode_files(
                listing.voices, audio_recipe(recipe.mel), cache, progress
            )
            voices = _make_voices(recipe, usable)
            skipped += problems
        if recipe.face is not None and listing.faces:
            usable, problems = _decode_faces(listing.faces, cache, progress)
            faces = _make_faces(recipe, usable)
            skipped += problems
    return Corpus(recipe.labels, faces, voices, tuple(skipped))


def list_corpus(recipe: Recipe) -> Listing:
    """List the files of all data sets. Raises DatasetError."""
    listing = Listing()
    for section, prefix in zip(recipe.data, name_data(recipe.data), strict=True):
        names = LabelNames(recipe.labels, section.map)
        if section.kind == "folder":
            listing.extend(list_folder(Path(section.root), prefix, names))
    return listing


def name_data(sections: Sequence[DataSection]) -> list[str]:
    """Return the part of the people's names that each data set gives: the name of its folder, and
    as much of the path as tells it from another one. Two entries with one root share their people.
    """
    roots = [Path(section.root).resolve() for section in sections]
    names = []
    for root in roots:
        others = [other for other in roots if other != root]
        depth = 1
        while any(other.parts[-depth:] == root.parts[-depth:] for other in others):
            depth += 1
        names.append("/".join(root.parts[-depth:]))
    return names


def _decode_faces(
    files: Sequence[MediaFile], cache: FeatureCache | None, progress: tqdm[Any]
) -> tuple[list[tuple[MediaFile, NDArray[Any]]], list[str]]:
    detector = open_detector()
    films = [file for file in files if file.kind == "video"]
    pictures = [file for file in files if file.kind == "picture"]
    usable, problems = decode_files(films, video_recipe(detector), cache, progress)
    more, others = decode_files(pictures, image_recipe(detector), cache, progress)
    return usable + more, problems + others


def _make_faces(
    recipe: Recipe, usable: Sequence[tuple[MediaFile, NDArray[np.uint8]]]
) -> FaceExamples:
    """Make an example of each different frame of a film, and of each picture."""
    images: list[NDArray[np.uint8]] = []
    owners: list[MediaFile] = []
    for file, crops in usable:
        # A short film has the same frame several times.
        frames = [crops[i] for i in range(len(crops)) if i == 0 or (crops[i] != crops[i - 1]).any()]
        images += frames
        owners += [file] * len(frames)
    if not images:
        raise DatasetError("no face can be decoded")
    labels = np.array([file.label for file in owners], np.int64)
    return FaceExamples(
        np.stack(images),
        np.eye(len(recipe.labels), dtype=np.float32)[labels],
        labels,
        tuple(file.person for file in owners),
        tuple(file.split for file in owners),
        tuple(file.recording for file in owners),
    )


def _make_voices(
    recipe: Recipe, usable: Sequence[tuple[MediaFile, NDArray[np.int16]]]
) -> VoiceExamples:
    if not usable:
        raise DatasetError("no recording can be decoded")
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
