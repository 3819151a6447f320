"""Face crops in memory: a few grey pictures per file, cut as the device cuts them.

In: films of RAVDESS, or films or pictures of a folder with a manifest. Out: a `CropSet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...engines.face_detector import Detector, open_detector
from ...kernels.reference import taps
from ..errors import DatasetError
from .cache import FeatureCache
from .decode import Recipe, Source, clip_sources, decode_all, folder_sources
from .folder import FolderItem
from .pictures import read_image
from .ravdess import Clip
from .takes import Box, read_faces

CROP_PX = 112
NUM_CROPS = 16
"""Of each film, evenly spaced: about four a second of a RAVDESS take."""
DETECTION_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True)
class CropSet:
    """N files with K crops each (K is 1 for pictures, `NUM_CROPS` for films)."""

    images: NDArray[np.uint8]
    """(N, K, 112, 112), in the order of time."""
    labels: NDArray[np.int64]
    """(N,), index in the product's seven `LABELS`."""
    emotions: NDArray[np.int64]
    """(N,), index in `ravdess.EMOTIONS8`; -1 for other data sets."""
    actors: NDArray[np.int64]
    """(N,), who is seen."""
    names: list[str]
    """RAVDESS: file names without suffix. Folder: the manifest's names."""
    skipped: int = 0
    """Files that could not be read or show no face."""
    duplicates: int = 0
    """Files left out because another one has the same crops and label."""

    def select(self, actors: Sequence[int]) -> CropSet:
        """Only these people; what was skipped or left out is not told by person."""
        index = np.flatnonzero(np.isin(self.actors, actors))
        return CropSet(
            self.images[index],
            self.labels[index],
            self.emotions[index],
            self.actors[index],
            [self.names[i] for i in index],
        )


def crop_gray(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Picture (H, W, 3) red first + square -> luma (112, 112), sampled as the device does."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    x, y, side = box
    row0, row1, down = taps(y, side, CROP_PX, gray.shape[0])
    col0, col1, right = taps(x, side, CROP_PX, gray.shape[1])
    rows = gray[row0] * (1 - down[:, None]) + gray[row1] * down[:, None]
    return np.asarray(np.round(rows[:, col0] * (1 - right) + rows[:, col1] * right), np.uint8)


def video_recipe(detector: Detector) -> Recipe:
    """A film -> uint8 (NUM_CROPS, 112, 112)."""

    def decode(path: Path) -> NDArray[np.uint8]:
        views = read_faces(path, detector, DETECTION_PERIOD_S)
        crops = [crop_gray(view.image, view.box) for view in views if view.box is not None]
        if not crops:
            raise DatasetError(f"{path}: no face is found in it")
        chosen = np.linspace(0, len(crops) - 1, NUM_CROPS).round().astype(int)
        return np.stack([crops[i] for i in chosen])

    return Recipe(
        "films", _detector_spec(detector, num=NUM_CROPS, every_s=DETECTION_PERIOD_S), decode
    )


def image_recipe(detector: Detector) -> Recipe:
    """A picture -> uint8 (1, 112, 112): its largest face; a square picture in which none is found
    is taken for a face that was cut out already."""

    def decode(path: Path) -> NDArray[np.uint8]:
        image = read_image(path)
        height, width = image.shape[:2]
        found = detector.detect(image, "rgb8")
        if found:
            x, y, size, _ = max(found, key=lambda one: one.size)
            return crop_gray(image, (x - size / 2, y - size / 2, size))[None]
        if height != width:
            raise DatasetError(f"{path}: no face is found in it")
        return crop_gray(image, (0.0, 0.0, float(width)))[None]

    return Recipe("pictures", _detector_spec(detector), decode)


def _detector_spec(detector: Detector, **more: float) -> dict[str, float | str]:
    return {"detector": type(detector).__name__, "crop_px": CROP_PX, **more}


def load_crops(clips: Sequence[Clip], cache: FeatureCache | None = None) -> CropSet:
    """The faces of each film, in their order. One that cannot be decoded or shows no face is
    logged and counted, one with the crops and emotion of another is left out and counted.

    Raises DatasetError when none can be read.
    """
    return _load(clip_sources(clips), video_recipe(open_detector()), cache)


def load_folder_crops(
    items: Sequence[FolderItem], root: Path, kind: str, cache: FeatureCache | None = None
) -> CropSet:
    """The same for the items of one kind, "picture" or "video", of `folder.load_folder(root)`."""
    recipe = {"picture": image_recipe, "video": video_recipe}[kind](open_detector())
    chosen = [item for item in items if item.kind == kind]
    return _load(folder_sources(chosen, root), recipe, cache)


def _load(sources: Sequence[Source], recipe: Recipe, cache: FeatureCache | None) -> CropSet:
    pairs, tally = decode_all(sources, recipe, cache, recipe.kind)
    return CropSet(
        np.stack([images for _, images in pairs]),
        np.array([source.label for source, _ in pairs], np.int64),
        np.array([source.emotion for source, _ in pairs], np.int64),
        np.array([source.actor for source, _ in pairs], np.int64),
        [source.name for source, _ in pairs],
        len(tally.problems),
        len(tally.duplicates),
    )
