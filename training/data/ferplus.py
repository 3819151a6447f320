"""FER+ faces: grey images of 48x48 pixels with ten crowd votes each.

In: a root folder in a layout of `ferplus_files`, and a split. Out: images, the distribution of
the votes over the product's labels, and one hard label per face (-1 without a majority).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...engines.bundles import LABELS
from ..errors import DatasetError
from .cache import Arrays, FeatureCache
from .ferplus_files import FACE_PX, SPLITS, VOTES, Layout, find_layout, has_split

__all__ = ["FACE_PX", "SPLITS", "VOTES", "FaceSet", "label_from_votes", "load_ferplus"]

log = logging.getLogger(__name__)

_LABEL_OF_VOTE = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
}


@dataclass(frozen=True, slots=True)
class FaceSet:
    """`images` uint8 (N, 48, 48), `votes` float32 (N, 7) summing to 1, `labels` int64 (N,)."""

    images: NDArray[np.uint8]
    votes: NDArray[np.float32]
    labels: NDArray[np.int64]
    skipped: int
    """Faces skipped: unreadable, or without a vote for one of the seven labels."""
    unreadable: Sequence[str] = ()
    """Names of the unreadable faces."""
    duplicates: int = 0
    """Faces skipped because the same image occurs earlier in this split or in a later one of
    train, valid, test, so that no image is both trained on and scored."""


def label_from_votes(counts: NDArray[np.int64]) -> tuple[NDArray[np.float32] | None, int]:
    """Convert ten vote counts -> distribution over `LABELS`, hard label or -1.

    Barsoum et al. 2016 (arXiv:1608.01041): a single vote for a label is an outlier, and the
    majority label needs more than half of the other votes. Contempt, unknown and "no face" are not
    labels of the product: they count for the majority, and their votes are removed from the
    distribution. The distribution is None when no vote remains.
    """
    counted = np.where(counts > 1, counts, 0)
    distribution = np.zeros(len(LABELS), np.float32)
    for vote, count in zip(VOTES, counted, strict=True):
        if vote in _LABEL_OF_VOTE:
            distribution[LABELS.index(_LABEL_OF_VOTE[vote])] += count
    total = distribution.sum()
    if total == 0:
        return None, -1
    best = int(distribution.argmax())
    agreed = distribution[best] * 2 > counted.sum()
    return distribution / total, best if agreed else -1


def load_ferplus(root: Path, split: str, cache: FeatureCache | None = None) -> FaceSet:
    """Load one split. Raises DatasetError when a file is missing or invalid.

    Later splits are loaded too, where present, to find duplicates.
    """
    arrays = _load(root, split, cache)
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


def _load(root: Path, split: str, cache: FeatureCache | None) -> Arrays:
    layout = find_layout(root, split)
    later = [other for other in SPLITS[SPLITS.index(split) + 1 :] if has_split(root, other)]

    def build() -> Arrays:
        others = [_load(root, other, cache)["images"] for other in later]
        return _collect(layout, {image.tobytes() for images in others for image in images})

    if cache is None:
        return build()
    files = [file for other in later for file in find_layout(root, other).files]
    spec = {"split": split, "labels": " ".join(LABELS)}
    return cache.load("ferplus", [*layout.files, *files], spec, build)


def _collect(layout: Layout, known: set[bytes]) -> Arrays:
    """Decode the faces of a split, except those whose pixels are in `known`; adds to `known`."""
    images: list[NDArray[np.uint8]] = []
    votes: list[NDArray[np.float32]] = []
    labels: list[int] = []
    unreadable: list[str] = []
    voteless = duplicates = 0
    for row in tqdm(layout.read(), "faces", leave=False, disable=None):
        distribution, label = label_from_votes(row.counts)
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
        "votes": np.array(votes, np.float32).reshape(-1, len(LABELS)),
        "labels": np.array(labels, np.int64),
        "skipped": np.array(len(unreadable) + voteless),
        "unreadable": np.array(unreadable, np.str_),
        "duplicates": np.array(duplicates),
    }
