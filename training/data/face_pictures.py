"""Pictures of one face with its label: a square and five landmarks.

In: a grey picture, an affine transform. Out: the moved picture and label. Labels follow the
transform, so they are exact under any roll, size and squeeze.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Labels = NDArray[np.float32]

LABEL_SIZE = 13
"""Centre x, centre y, side, then x, y of five landmarks: the eye on the picture's left, the other,
nose, mouth corner on the left, the other."""
MIRRORED = (2, 1, 3, 5, 4)
"""Rows of the landmarks in a mirror image, after the centre."""


@dataclass(frozen=True, slots=True)
class FacePicture:
    """A picture with one face."""

    image: Gray
    label: Labels
    """(13,) in pixels of the picture."""
    has_surroundings: bool = False
    """Whether hair, neck and background are visible, so that it needs no pasting."""


def move_label(label: Labels, matrix: NDArray[np.float64]) -> Labels:
    """Return a label after the affine `matrix` (2, 3).

    The side follows the vertical edge of the square: a picture squeezed to half its width leaves
    it, one squeezed in height halves it, as for a detector that measures height. In a mirror image
    the landmarks of left and right change places.
    """
    points = np.concatenate([label[None, :2], label[3:].reshape(5, 2)])
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    side = label[2] * np.hypot(*matrix[:, 1])
    if np.linalg.det(matrix[:, :2]) < 0:
        moved = moved[[0, *MIRRORED]]
    return np.concatenate([moved[0], [side], moved[1:].ravel()]).astype(np.float32)


def warp_picture(
    image: Gray, matrix: NDArray[np.float64], size: tuple[int, ...], border: int
) -> Gray:
    """Move a picture into one of `size` (width, height); when it shrinks, it is averaged first."""
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink < 0.7:
        height, width = image.shape
        small = max(2, round(width * shrink)), max(2, round(height * shrink))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        factors = np.array([width / small[0], height / small[1]])
        linear = matrix[:, :2] * factors
        # Pixel centres: column c of the small picture is (c + 0.5) * factor - 0.5 of the large.
        offset = matrix[:, 2] + matrix[:, :2] @ (factors * 0.5 - 0.5)
        matrix = np.concatenate([linear, offset[:, None]], 1)
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, np.uint8)


def cut_picture(
    backgrounds: Sequence[Gray], size: tuple[int, int], rng: np.random.Generator
) -> Gray:
    """Return a part of a random picture, at a random scale, as one of `size` (width, height)."""
    picture = backgrounds[int(rng.integers(len(backgrounds)))]
    rows, columns = picture.shape
    aspect = size[0] / size[1]
    widest = min(columns, rows * aspect)
    width = float(np.exp(rng.uniform(np.log(min(64, widest)), np.log(widest))))
    wide, high = max(1, int(width)), max(1, int(width / aspect))
    x, y = int(rng.integers(columns - wide + 1)), int(rng.integers(rows - high + 1))
    cut = picture[y : y + high, x : x + wide]
    method = cv2.INTER_AREA if wide > size[0] else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(cut, size, interpolation=method), np.uint8)
    return np.ascontiguousarray(resized[:, ::-1]) if rng.random() < 0.5 else resized
