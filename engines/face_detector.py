"""Faces in one picture: two detectors of OpenCV that remember nothing between pictures.

In: a picture. Out: every face in it as a square, framed as the face network was trained (forehead
to chin, the frame of OpenCV's Haar faces, which FER2013 was cut with).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..kernels.pixels import picture_size
from .base import EngineError

SEARCH_WIDTH_PX = 320
"""Pictures are searched at this width: a face of a tenth of the picture still shows."""
MIN_FACE_SHARE = 0.08
"""Smallest face, as a share of the picture's width."""

_TO_GREY = {"bgr8": cv2.COLOR_BGR2GRAY, "rgb8": cv2.COLOR_RGB2GRAY}
_TO_BGR = {"yuyv": cv2.COLOR_YUV2BGR_YUYV, "nv12": cv2.COLOR_YUV2BGR_NV12}


class Found(NamedTuple):
    """One face as a detector reports it: centre, side of the square, confidence."""

    x: float
    y: float
    size: float
    score: float


class Detector(Protocol):
    """Finds faces. One thread only."""

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Found]:
        """Picture as in `kernels.pixels` -> faces, in its pixels. Raises ValueError when the array
        cannot be such a picture, cv2.error when OpenCV fails."""


def open_detector(yunet_file: str | Path = "") -> Detector:
    """YuNet when a file is given, else OpenCV's bundled Haar cascade. Raises EngineError."""
    return YuNetDetector(Path(yunet_file)) if str(yunet_file) else HaarDetector()


def _shrink(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """The picture at `SEARCH_WIDTH_PX`, and how many times larger the original is."""
    height, width = image.shape[:2]
    scale = max(1.0, width / SEARCH_WIDTH_PX)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)), scale


class HaarDetector:
    """Viola-Jones frontal faces; ships with OpenCV 4 (version 5 dropped it)."""

    FILE = "haarcascade_frontalface_default.xml"
    STEP, NEIGHBOURS = 1.15, 4

    def __init__(self) -> None:
        self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / self.FILE))
        if self._cascade.empty():
            raise EngineError(f"OpenCV {cv2.__version__} has no {self.FILE}; install 4.8 to 4.x")

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Found]:
        height, _ = picture_size(image, pixel_format)
        if pixel_format in _TO_GREY:
            small, scale = _shrink(image)
            grey = cv2.cvtColor(small, _TO_GREY[pixel_format])
        else:  # luma lies there ready
            small, scale = _shrink(image[..., 0] if pixel_format == "yuyv" else image[:height])
            grey = small
        least = max(20, round(small.shape[1] * MIN_FACE_SHARE))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey, self.STEP, self.NEIGHBOURS, minSize=(least, least), outputRejectLevels=True
        )
        return [
            Found((x + w / 2) * scale, (y + h / 2) * scale, w * scale, float(weight))
            for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True)
        ]


class YuNetDetector:
    """YuNet (Wu et al. 2023), a small network run by OpenCV; also finds turned faces."""

    MIN_SCORE = 0.7
    SIDE_PER_HEIGHT = 0.95
    """Its boxes reach from hair line to chin: this share of their height is a Haar face."""
    MIN_SIDE_PX = 64
    """OpenCV makes it see huge faces, at random, in pictures of less than 33 rows or columns."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise EngineError(f"{str(file)!r}: no such file")
        try:
            self._net = cv2.FaceDetectorYN.create(str(file), "", (32, 32), self.MIN_SCORE)
        except cv2.error as error:
            raise EngineError(f"{str(file)!r}: not a YuNet: {error.err}") from error

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Found]:
        picture_size(image, pixel_format)
        if pixel_format in _TO_BGR:
            image = np.asarray(cv2.cvtColor(image, _TO_BGR[pixel_format]), np.uint8)
        small, scale = _shrink(image)
        if min(small.shape[:2]) < self.MIN_SIDE_PX:
            return []
        if pixel_format == "rgb8":
            small = np.ascontiguousarray(small[..., ::-1])
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(small)
        return [
            Found(
                float(x + w / 2) * scale,
                float(y + h / 2) * scale,
                float(h) * self.SIDE_PER_HEIGHT * scale,
                float(row[14]),
            )
            for row in (rows if rows is not None else ())
            for x, y, w, h in [row[:4]]
            if w >= small.shape[1] * MIN_FACE_SHARE * 0.8
        ]
