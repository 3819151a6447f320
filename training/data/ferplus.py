"""FER+ faces: grey images of 48x48 pixels with ten crowd votes each.

In: a root folder in a layout of `ferplus_files`, and a split. Out: images, the distribution of
the votes over the labels, and one hard label per face (-1 without a majority).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import DatasetError
from .cache import Arrays, FeatureCache
from .ferplus_files import FACE_PX, SPLITS, VOTES, Layout, find_layout, has_split
from .label_names import LabelNames

__all__ = [
    "FACE_PX",
    "SPLITS",
    "VOTES",
    "FaceSet",
    "find_vote_labels",
    "hold_out",
    "label_from_votes",
    "load_ferplus",
]

log = logging.getLogger(__name__)

NUM_HELD_OUT = 2_000
"""Faces of `train` that are held out, for validation and for the temperature."""
OPTIONAL_VOTES = ("contempt", "unknown", "NF")
"""Votes that need no label."""


@dataclass(frozen=True, slots=True)
class FaceSet:
    """`images` uint8 (N, 48, 48), `votes` float32 (N, L) summing to 1, `labels` int64 (N,)."""

    images: NDArray[np.uint8]
    votes: NDArray[np.float32]
    labels: NDArray[np.int64]
    skipped: int
    """Faces skipped: unreadable, or without a vote for one of the labels."""
    unreadable: Sequence[str] = ()
    """Names of the unreadable faces."""
    duplicates: int = 0
    """Faces skipped because the same image occurs earlier in this split or in a later one of
    train, valid, test, so that no image is both trained on and scored."""


def find_vote_labels(names: LabelNames) -> tuple[int, ...]:
    """Return the index of each vote's label, -1 for votes that are left out. Raises DatasetError
    for votes without a label."""
    found = {vote: names.find(vote) for vote in VOTES}
    unknown = [vote for vote in VOTES if found[vote] is None and vote not in OPTIONAL_VOTES]
    if unknown:
        raise DatasetError(
            f"FER+ has the labels {', '.join(unknown)}, allowed: {names.describe()}; map others"
            " to a label, or to '' to leave them out"
        )
    return tuple(names.labels.index(label) if label else -1 for label in found.values())


def hold_out(num_faces: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the faces of `train` that are trained on, and of those held out, both
    in random order."""
    order = np.random.default_rng(seed).permutation(num_faces)
    num_held_out = min(NUM_HELD_OUT, num_faces // 5)
    return order[num_held_out:], order[:num_held_out]


def label_from_votes(
    counts: NDArray[np.int64], vote_labels: Sequence[int], num_labels: int
) -> tuple[NDArray[np.float32] | None, int]:
    """Convert ten vote counts -> distribution over the labels, hard label or -1.

    Barsoum et al. 2016 (arXiv:1608.01041): a single vote for a label is an outlier, and the
    majority label needs more than half of the other votes. Votes without a label, such as unknown
    and "no face", count for the majority, and are removed from the distribution. The distribution
    is None when no vote remains.
    """
    counted = np.where(counts > 1, counts, 0)
    distribution = np.zeros(num_labels, np.float32)
    for label, count in zip(vote_labels, counted, strict=True):
        if label >= 0:
            distribution[label] += count
    total = distribution.sum()
    if total == 0:
        return None, -1
    best = int(distribution.argmax())
    agreed = distribution[best] * 2 > counted.sum()
    return distribution / total, best if agreed else -1


def load_ferplus(
    root: Path, split: str, cache: FeatureCache | None = None, names: LabelNames | None = None
) -> FaceSet:
    """Load one split. Raises DatasetError when a file is missing or invalid.

    `names` are by default those of the product's seven labels. Later splits are loaded too, where
    present, to find duplicates.
    """
    arrays = _load(root, split, cache, names or LabelNames())
    faces = FaceSet(
        arrays["images"],
        arrays["votes"],
        arrays["labels"],
        int(arrays["skipped"]),
        tuple(arrays["unreadable"].tolist()),
        int(arrays["duplicates"]),
    )
    for name in faces.unreadable:
        log.warning("skipped: %s %s: %s cannot be read", root, split, name)
    if len(faces.labels) == 0:
        raise DatasetError(f"{find_layout(root, split).images}: no readable face of {split}")
    return faces


def _load(root: Path, split: str, cache: FeatureCache | None, names: LabelNames) -> Arrays:
    layout = find_layout(root, split)
    vote_labels = find_vote_labels(names)
    later = [other for other in SPLITS[SPLITS.index(split) + 1 :] if has_split(root, other)]

    def build() -> Arrays:
        others = [_load(root, other, cache, names)["images"] for other in later]
        known = {image.tobytes() for images in others for image in images}
        return _collect(layout, known, vote_labels, len(names.labels))

    if cache is None:
        return build()
    files = [file for other in later for file in find_layout(root, other).files]
    spec = {"split": split, "labels": " ".join(names.labels)}
    if names != LabelNames():
        spec["votes"] = f"{len(names.labels)} {vote_labels}"
    return cache.load("ferplus", [*layout.files, *files], spec, build)


def _collect(
    layout: Layout, known: set[bytes], vote_labels: Sequence[int], num_labels: int
) -> Arrays:
    """Decode the faces of a split, except those whose pixels are in `known`; adds to `known`."""
    images: list[NDArray[np.uint8]] = []
    votes: list[NDArray[np.float32]] = []
    labels: list[int] = []
    unreadable: list[str] = []
    voteless = duplicates = 0
    for row in tqdm(layout.read(), "faces", leave=False, disable=None):
        distribution, label = label_from_votes(row.counts, vote_labels, num_labels)
        if distribution is None:
            voteless += 1
            continue
        image = row.decode()
        if image is None:
            unreadable.append(row.name)
            continue
        pixels = image.tobytes()
        if pixels in known:
            duplicates += 1
            continue
        known.add(pixels)
        images.append(image)
        votes.append(distribution)
        labels.append(label)
    return {
        "images": np.array(images, np.uint8).reshape(-1, FACE_PX, FACE_PX),
        "votes": np.array(votes, np.float32).reshape(-1, num_labels),
        "labels": np.array(labels, np.int64),
        "skipped": np.array(len(unreadable) + voteless),
        "unreadable": np.array(unreadable, np.str_),
        "duplicates": np.array(duplicates),
    }
