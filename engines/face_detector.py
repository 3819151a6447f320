"""Face detection in single images, without state: the bundle's network, or YuNet.

In: an image. Out: a square around each face, framed as in the face network's training: forehead to
chin, as the faces of FER2013 were cut.
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
from .detection_network import DetectionNetwork, measure_roll, open_detection_network
from .face_tracker import LOST_AFTER_S, MAX_FACES, FaceTracker

__all__ = ["Detection", "Detector", "YuNetDetector", "make_face_tracker", "open_detector"]


def open_detector(yunet_file: str | Path = "", bundle: Bundle | None = None) -> Detector:
    """Open YuNet from `yunet_file`, else the face detector of `bundle`, else that of the bundle
    that ships. Raises EngineError and BundleError."""
    if str(yunet_file):
        return YuNetDetector(Path(yunet_file))
    if bundle is None or bundle.manifest.face_detector is None:
        bundle = load_bundle(DEFAULT_BUNDLE)
    entry = bundle.manifest.face_detector
    if entry is None:
        raise EngineError(f"{bundle.path}: has no face detector; face.yunet_file may name a YuNet")
    return open_detection_network(bundle.path, entry, bundle.read(entry.file))


def make_face_tracker(
    detector: Detector, lost_after_s: float = LOST_AFTER_S, max_faces: int = MAX_FACES
) -> FaceTracker:
    """Make a tracker of the faces that `detector` finds."""
    if isinstance(detector, DetectionNetwork):
        scores = detector.tracking_scores
        return FaceTracker(detector.for_tracking(), lost_after_s, max_faces, scores)
    return FaceTracker(detector, lost_after_s, max_faces)


class YuNetDetector:
    """YuNet (Wu et al. 2023), a small network run by OpenCV; also detects turned faces."""

    MIN_SCORE = 0.7
    WIDTH_PX = 320
    """Images are reduced to this width."""
    SIDE_PER_HEIGHT = 0.95
    """Its boxes reach from hair line to chin: this fraction of the height is a face of FER2013."""
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
        height, width = image_size(image, pixel_format)
        scale = max(1.0, width / self.WIDTH_PX)
        size = max(1, round(width / scale)), max(1, round(height / scale))
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
        ]
