"""Face detection in single images: OpenCV's Haar cascade and YuNet, without state.

In: an image. Out: a square around each face, framed as in the face network's training (forehead to
chin, as OpenCV's Haar cascade frames faces, with which FER2013 was cut).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..kernels.bgr_image import resize_to_bgr
from ..kernels.pixels import image_size
from .base import EngineError
from .bundles import DEFAULT_BUNDLE, Bundle, load_bundle
from .detection import Detection, Detector
from .detection_network import measure_roll, open_detection_network

__all__ = ["Detection", "Detector", "HaarDetector", "YuNetDetector", "open_detector"]

DETECTION_WIDTH_PX = 320
"""Images are reduced to this width: a face of a tenth of the width is still detected."""
MIN_FACE_FRACTION = 0.08
"""Smallest face, as a fraction of the image's width."""

_TO_GRAY = {"bgr8": cv2.COLOR_BGR2GRAY, "rgb8": cv2.COLOR_RGB2GRAY}


def open_detector(yunet_file: str | Path = "", bundle: Bundle | None = None) -> Detector:
    """Open YuNet from `yunet_file`, else the face detector of `bundle`, else that of the bundle
    that ships, else OpenCV's bundled Haar cascade. Raises EngineError and BundleError."""
    if str(yunet_file):
        return YuNetDetector(Path(yunet_file))
    if bundle is None or bundle.manifest.face_detector is None:
        bundle = load_bundle(DEFAULT_BUNDLE)
    entry = bundle.manifest.face_detector
    if entry is None:
        return HaarDetector()
    return open_detection_network(bundle.path, entry)


def _search_size(height: int, width: int) -> tuple[tuple[int, int], float]:
    """Return (width, height) at `DETECTION_WIDTH_PX`, and the factor back to the image."""
    scale = max(1.0, width / DETECTION_WIDTH_PX)
    return (max(1, round(width / scale)), max(1, round(height / scale))), scale


class HaarDetector:
    """Frontal faces by Viola and Jones (2001); ships with OpenCV 4, version 5 dropped it."""

    FILE = "haarcascade_frontalface_default.xml"
    SCALE_FACTOR, MIN_NEIGHBORS = 1.15, 4

    def __init__(self) -> None:
        self._cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / self.FILE))
        if self._cascade.empty():
            raise EngineError(f"OpenCV {cv2.__version__} has no {self.FILE}; install 4.8 to 4.x")

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        height, width = image_size(image, pixel_format)
        size, scale = _search_size(height, width)
        if pixel_format in _TO_GRAY:
            gray = cv2.cvtColor(cv2.resize(image, size), _TO_GRAY[pixel_format])
        else:  # luma as it is; the cascade normalizes contrast, so its range does not matter
            gray = cv2.resize(image[..., 0] if image.ndim == 3 else image[:height], size)
        min_size = max(20, round(size[0] * MIN_FACE_FRACTION))
        boxes, _, weights = self._cascade.detectMultiScale3(
            gray,
            self.SCALE_FACTOR,
            self.MIN_NEIGHBORS,
            minSize=(min_size, min_size),
            outputRejectLevels=True,
        )
        return [
            Detection((x + w / 2) * scale, (y + h / 2) * scale, w * scale, float(weight))
            for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True)
        ]


class YuNetDetector:
    """YuNet (Wu et al. 2023), a small network run by OpenCV; also detects turned faces."""

    MIN_SCORE = 0.7
    SIDE_PER_HEIGHT = 0.95
    """Its boxes reach from hair line to chin: this fraction of the height is a Haar face."""
    MIN_SIDE_PX = 64
    """With OpenCV it detects huge faces at random in images under 33 rows or columns."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise EngineError(f"{str(file)!r}: no such file")
        try:
            self._net = cv2.FaceDetectorYN.create(str(file), "", (32, 32), self.MIN_SCORE)
        except cv2.error as error:
            raise EngineError(f"{str(file)!r}: not a YuNet: {error.err}") from error

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        size, scale = _search_size(*image_size(image, pixel_format))
        if min(size) < self.MIN_SIDE_PX:
            return []
        self._net.setInputSize(size)
        _, rows = self._net.detect(resize_to_bgr(image, pixel_format, *size))
        return [
            Detection(
                float(x + w / 2) * scale,
                float(y + h / 2) * scale,
                float(h) * self.SIDE_PER_HEIGHT * scale,
                float(row[14]),
                measure_roll(row[4:14].reshape(5, 2), float(h)),
            )
            for row in (rows if rows is not None else ())
            for x, y, w, h in [row[:4]]
            if w >= size[0] * MIN_FACE_FRACTION * 0.8
        ]
