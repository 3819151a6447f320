"""What a face detector gives, and what every one is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Detection(NamedTuple):
    """One detected face: centre and side of the square in pixels, confidence, and how far the head
    is tilted."""

    x: float
    y: float
    size: float
    score: float
    roll: float = 0.0
    """Angle of the line from the eye on the image's left to the one on the right, in radians,
    positive clockwise as seen (y points down)."""


class TrackingScores(NamedTuple):
    """Scores of detections that decide what a tracker does with them; 0 where scores are no
    probabilities."""

    begin: float = 0.0
    """A face is followed from its first detection with this score on. Later ones may score less."""
    label: float = 0.0
    """A face that has not yet reached this score is not trusted: it gets no label. One that has
    keeps it: a head that turns away scores less."""


class Detector(Protocol):
    """A face detector for one thread."""

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        """Return the faces in an image of a format of `kernels.pixels`. Raises ValueError for an
        array of another shape or type, cv2.error when OpenCV fails."""
