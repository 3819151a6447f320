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
from tqdm import tqdm

from ...engines.face_detector import open_detector
from ..errors import DatasetError
from ..recipe_file import DataSection, Recipe
from .action_units import ActionUnits, find_unit_table, load_action_units
from .cache import FeatureCache
from .corpus_checks import Roll, check_roll, check_rolls, join_rolls, roll_files
from .crops import image_recipe, video_recipe
from .examples import Corpus, FaceExamples, VoiceExamples, select_fold
from .ferplus import hold_out, load_ferplus
from .ferplus_files import has_split
from .folds import RAVDESS
from .label_names import LabelNames
from .media_files import Listing, MediaFile, decode_files, list_folder
from .merging import Pixels, make_faces, make_voices, merge_faces
from .recordings import list_ravdess
from .voices import audio_recipe

__all__ = ["Corpus", "FaceExamples", "VoiceExamples", "list_corpus", "load_corpus", "select_fold"]

log = logging.getLogger(__name__)

FACE_SEED = 0
"""Of the choice of the faces that FER+ holds out, the same for all runs."""


def load_corpus(recipe: Recipe, cache: FeatureCache | None) -> Corpus:
    """Load all data sets of a recipe. Raises DatasetError, also for people or content in two
    splits, and for labels or people that are missing.

    Files are listed and checked first, so that a mistake is named before hours of decoding.
    """
    listing = list_corpus(recipe)
    for note in listing.notes:
        log.info("%s", note)
    skipped = list(listing.skipped)
    ferplus = _load_ferplus(recipe, cache, skipped)
    rolls = _roll_call(recipe, listing, ferplus)
    folds = check_rolls(rolls, recipe.labels, recipe.people.protocol)
    face_files = listing.faces if recipe.face else []
    voice_files = listing.voices if recipe.voice else []
    voices = None
    with tqdm(
        total=len(face_files) + len(voice_files), unit="file", leave=False, disable=None
    ) as progress:
        if voice_files:
            sounds, problems = decode_files(voice_files, audio_recipe(recipe.mel), cache, progress)
            skipped += problems
            voices = make_voices(recipe, sounds)
        crops, problems = _decode_faces(face_files, cache, progress)
        skipped += problems
    faces = merge_faces([*ferplus, *make_faces(recipe, crops)])
    corpus = Corpus(recipe.labels, faces, voices, tuple(skipped), _load_units(recipe), folds)
    _check_examples(recipe, corpus)
    return corpus


def list_corpus(recipe: Recipe) -> Listing:
    """List the files of all data sets but FER+, which has archives. Raises DatasetError."""
    by_fold = recipe.people.protocol == "folds"
    listing = Listing()
    ravdess = []
    kind_of: dict[Path, str] = {}
    for section, prefix in zip(recipe.data, name_data(recipe.data), strict=True):
        names = LabelNames(recipe.labels, section.map)
        if section.kind in ("folder", "ravdess"):
            kind = kind_of.setdefault(Path(section.root).resolve(), section.kind)
            if kind != section.kind:
                raise DatasetError(
                    f"data has {section.root} as {kind} and as {section.kind}, allowed: one of"
                    " them, because its people would have two names"
                )
        if section.kind == "folder":
            listing.extend(list_folder(Path(section.root), prefix, names, by_fold))
        elif section.kind == "ravdess":
            ravdess.append((Path(section.root), names))
    if ravdess:
        listing.extend(list_ravdess(ravdess, by_fold))
    return listing


def name_data(sections: Sequence[DataSection]) -> list[str]:
    """Return the part of the people's names that each data set gives: the name of its folder, and
    as much of the path as tells it from another one. Two entries with one root share their people.
    """
    roots = [Path(section.root).resolve() for section in sections]
    names = []
    for root in roots:
        others = [other for other in roots if other != root]
        depth = 1 + (root.name == RAVDESS.rstrip(":"))  # not the prefix of its actors
        while any(other.parts[-depth:] == root.parts[-depth:] for other in others):
            depth += 1
        names.append("/".join(root.parts[-depth:]))
    return names


def _load_ferplus(
    recipe: Recipe, cache: FeatureCache | None, skipped: list[str]
) -> list[FaceExamples]:
    """Load each FER+ of a recipe: its split `train`, of which some faces are held out to validate
    on, and `valid` to test on. The faces are in the order in which `hold_out` draws them."""
    parts = []
    for section in recipe.data if recipe.face else ():
        if section.kind != "ferplus":
            continue
        root, names = Path(section.root), LabelNames(recipe.labels, section.map)
        faces = load_ferplus(root, "train", cache, names)
        training, held_out = hold_out(len(faces.labels), FACE_SEED)
        order = np.concatenate([training, held_out])
        splits = ["train"] * len(training) + ["valid"] * len(held_out)
        images, votes, labels = faces.images[order], faces.votes[order], faces.labels[order]
        skipped += [f"{root} train: {name}: cannot be read" for name in faces.unreadable]
        if has_split(root, "valid"):
            scored = load_ferplus(root, "valid", cache, names)
            images = np.concatenate([images, scored.images])
            votes = np.concatenate([votes, scored.votes])
            labels = np.concatenate([labels, scored.labels])
            splits += ["test"] * len(scored.labels)
            skipped += [f"{root} valid: {name}: cannot be read" for name in scored.unreadable]
        nobody = ("",) * len(labels)
        parts.append(FaceExamples(images, votes, labels, nobody, tuple(splits), nobody))
    return parts


def _load_units(recipe: Recipe) -> ActionUnits | None:
    """Load the table of action units, with the recipe's labels."""
    sections = [section for section in recipe.data if section.kind == "action_units"]
    if not sections:
        return None
    if len(sections) > 1:
        raise DatasetError(f"data has {len(sections)} tables of action units, allowed: one")
    names = LabelNames(recipe.labels, sections[0].map)
    return load_action_units(find_unit_table(Path(sections[0].root)), names)


def _roll_call(recipe: Recipe, listing: Listing, ferplus: Sequence[FaceExamples]) -> list[Roll]:
    """Return a roll of each modality."""
    rolls = []
    if recipe.face is not None:
        rolls.append(
            join_rolls("face", [roll_files("face", listing.faces), *map(call_roll, ferplus)])
        )
    if recipe.voice is not None:
        rolls.append(roll_files("voice", listing.voices))
    return rolls


def call_roll(examples: FaceExamples | VoiceExamples) -> Roll:
    """Return the roll of decoded examples."""
    noun = "face" if isinstance(examples, FaceExamples) else "voice"
    return Roll(noun, examples.labels.tolist(), examples.people, examples.splits)


def _check_examples(recipe: Recipe, corpus: Corpus) -> None:
    """Check what could be decoded."""
    for noun, examples, section in (
        ("face", corpus.faces, recipe.face),
        ("voice", corpus.voices, recipe.voice),
    ):
        if section is None:
            continue
        if examples is None:
            raise DatasetError(f"no {noun} can be decoded: {corpus.skipped[-1]}")
        try:
            check_roll(
                call_roll(examples), corpus.labels, corpus.folds, section.learning.batch_size
            )
        except DatasetError as error:
            if not corpus.skipped:
                raise
            raise DatasetError(
                f"{error}; {len(corpus.skipped)} files are skipped, such as {corpus.skipped[0]}"
            ) from error


def _decode_faces(
    files: Sequence[MediaFile], cache: FeatureCache | None, progress: tqdm[Any]
) -> tuple[list[tuple[MediaFile, Pixels]], list[str]]:
    if not files:
        return [], []
    detector = open_detector()
    films = [file for file in files if file.kind == "video"]
    pictures = [file for file in files if file.kind == "picture"]
    usable, problems = decode_files(films, video_recipe(detector), cache, progress)
    more, others = decode_files(pictures, image_recipe(detector), cache, progress)
    return usable + more, problems + others
