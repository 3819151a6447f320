"""Grey face crops of videos and images, cropped as the device crops them.

In: videos or images. Out: a `CropSet` of RAVDESS, and the decoders that fill the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...engines.detection_network import DetectionNetwork
from ...engines.face_detector import Detector, open_detector
from ...kernels import Box
from ...kernels.reference import sample_face
from ..errors import DatasetError
from .cache import FeatureCache
from .decode import Recipe, clip_sources, decode_all
from .faces import read_faces
from .images import read_image
from .ravdess import Clip

CROP_PX = 112
NUM_CROPS = 16
"""Crops of a video, evenly spaced: about four per second of a RAVDESS recording."""
DETECTION_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True)
class CropSet:
    """`NUM_CROPS` crops of each of N videos."""

    images: NDArray[np.uint8]
    """(N, NUM_CROPS, 112, 112), in temporal order."""
    labels: NDArray[np.int64]
    """(N,), index in the product's seven `LABELS`."""
    emotions: NDArray[np.int64]
    """(N,), index in `ravdess.EMOTIONS8`."""
    actors: NDArray[np.int64]
    """(N,), number of the actor."""
    names: list[str]
    """File names without suffix."""
    skipped: int = 0
    """Videos that cannot be decoded or show no face."""
    duplicates: int = 0
    """Videos skipped because another one has the same crops and label."""


def crop_gray(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Crop a square out of an RGB image (H, W, 3) -> luma (112, 112), sampled as on the device."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(np.round(sample_face(gray[..., None], box, CROP_PX)[..., 0]), np.uint8)


def video_recipe(detector: Detector) -> Recipe:
    """Decoder of a video -> uint8 (NUM_CROPS, 112, 112)."""

    def decode(path: Path) -> NDArray[np.uint8]:
        views = read_faces(path, detector, DETECTION_PERIOD_S)
        crops = [crop_gray(view.image, view.box) for view in views if view.box is not None]
        if not crops:
            raise DatasetError(f"{path}: no face is detected")
        chosen = np.linspace(0, len(crops) - 1, NUM_CROPS).round().astype(int)
        return np.stack([crops[i] for i in chosen])

    spec = _detector_spec(detector, num=NUM_CROPS, every_s=DETECTION_PERIOD_S)
    return Recipe("films", "videos", spec, decode)


def image_recipe(detector: Detector) -> Recipe:
    """Decoder of an image -> uint8 (1, 112, 112): its largest face. A square image in which no face
    is detected counts as a face crop."""

    def decode(path: Path) -> NDArray[np.uint8]:
        image = read_image(path)
        height, width = image.shape[:2]
        detections = detector.detect(image, "rgb8")
        if detections:
            face = max(detections, key=lambda face: face.size)
            box = face.x - face.size / 2, face.y - face.size / 2, face.size, face.roll
            return crop_gray(image, box)[None]
        if height != width:
            raise DatasetError(f"{path}: no face is detected")
        return crop_gray(image, (0.0, 0.0, float(width), 0.0))[None]

    return Recipe("pictures", "images", _detector_spec(detector), decode)


def _detector_spec(detector: Detector, **more: float) -> dict[str, float | str]:
    name = type(detector).__name__
    if isinstance(detector, DetectionNetwork):
        name += f" {detector.sha256}"
    return {"detector": name, "crop_px": CROP_PX, **more}


def load_crops(clips: Sequence[Clip], cache: FeatureCache | None = None) -> CropSet:
    """Decode the faces of videos, in their order.

    A video that cannot be decoded or shows no face is logged and counted as skipped, one with the
    crops and emotion of another as a duplicate. Raises DatasetError when none can be decoded.
    """
    recipe = video_recipe(open_detector())
    pairs, tally = decode_all(clip_sources(clips), recipe, cache)
    return CropSet(
        np.stack([images for _, images in pairs]),
        np.array([source.label for source, _ in pairs], np.int64),
        np.array([source.emotion for source, _ in pairs], np.int64),
        np.array([source.actor for source, _ in pairs], np.int64),
        [source.name for source, _ in pairs],
        len(tally.problems),
        len(tally.duplicates),
    )
