"""Drawn sunglasses and covers, and other things that hide a part of a face.

In: a grey face picture and its landmarks (eye left in the picture, other eye, nose, mouth corners,
as x, y). Out: the picture with the part hidden, in place.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
_SHIFT = 4
"""Fractional bits of coordinates for OpenCV's drawing."""


def draw_sunglasses(face: Gray, landmarks: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draw dark glasses of random shape, size and tint over the eyes."""
    points = landmarks.reshape(5, 2)
    left, right = points[0], points[1]
    axis = right - left
    distance = float(np.hypot(*axis))
    if distance < 1:
        return
    angle = float(np.degrees(np.arctan2(axis[1], axis[0])))
    tint = int(rng.integers(0, 70))
    width, height = distance * rng.uniform(0.34, 0.56), distance * rng.uniform(0.24, 0.42)
    drop = rng.uniform(-0.02, 0.12) * distance
    down = np.array([-axis[1], axis[0]], np.float32) / distance * drop
    kind = rng.integers(4)
    layer = face.copy()
    if kind == 0:  # a visor
        middle = (left + right) / 2 + down
        _fill_box(layer, middle, (distance * 2 + width) / 2 * 0.85, height, angle, tint)
    else:
        for eye in (left, right):
            centre = eye + down
            if kind == 1:
                _fill_ellipse(layer, centre, width, height, angle, tint)
            elif kind == 2:
                _fill_box(layer, centre, width, height * 0.85, angle, tint)
            else:  # aviators: wider at the top
                _fill_ellipse(layer, centre, width, height * 1.1, angle, tint)
                _fill_box(
                    layer,
                    centre - down - axis[::-1] * [-1, 1] * 0.08,
                    width,
                    height * 0.5,
                    angle,
                    tint,
                )
        thickness = max(1, round(distance * rng.uniform(0.03, 0.1)))
        cv2.line(
            layer, _fixed(left + down), _fixed(right + down), tint, thickness, cv2.LINE_AA, _SHIFT
        )
        reach = axis / distance * width
        for eye, sign in ((left, -1), (right, 1)):
            start = eye + down + sign * reach
            cv2.line(
                layer,
                _fixed(start),
                _fixed(start + sign * axis * 0.5),
                tint,
                thickness,
                cv2.LINE_AA,
                _SHIFT,
            )
    if rng.random() < 0.3:  # a reflection
        centre = left + down - [0, height * 0.3]
        _fill_ellipse(layer, centre, width * 0.4, height * 0.2, angle, int(rng.integers(90, 220)))
    opacity = rng.uniform(0.8, 1.0)
    face[:] = cv2.addWeighted(layer, opacity, face, 1 - opacity, 0)


def cover_half(
    face: Gray, box: NDArray[np.float32], texture: Gray, rng: np.random.Generator
) -> None:
    """Hide one half of the square `box` (centre x, y, side), or mask the mouth, by a flat tint or a
    `texture` of any size."""
    x, y, side = (float(v) for v in box)
    half = side / 2
    share = rng.uniform(0.35, 0.52)
    kind = rng.choice(["low", "low", "low", "left", "right", "top"])
    reach = half * rng.uniform(1.0, 1.3)
    left, right, top, bottom = x - reach, x + reach, y - reach, y + reach
    if kind == "low":
        top = y + half - side * share
    elif kind == "top":
        bottom = y - half + side * share * 0.9
    elif kind == "left":
        right = x - half + side * share
    else:
        left = x + half - side * share
    mask = np.zeros_like(face)
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    if kind == "low" and rng.random() < 0.5:  # a mask over nose and mouth
        corners[:2, 0] = x - half * 0.85, x + half * 0.85
        corners[2:, 0] = x + half * 0.5, x - half * 0.5
        corners = np.insert(corners, 1, [x, top - side * 0.08], axis=0)
    corners += rng.normal(0, side * 0.02, corners.shape)
    cv2.fillPoly(mask, [np.round(corners * 2**_SHIFT).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    if rng.random() < 0.5:
        fill = np.full_like(face, int(rng.integers(0, 256)))
    else:
        fill = np.asarray(cv2.resize(texture, face.shape[::-1]), np.uint8)
    alpha = mask.astype(np.float32) / 255
    face[:] = (face * (1 - alpha) + fill * alpha).astype(np.uint8)


def _fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    return round(float(point[0]) * 2**_SHIFT), round(float(point[1]) * 2**_SHIFT)


def _fill_ellipse(
    image: Gray, centre: NDArray[np.floating], a: float, b: float, angle: float, tint: int
) -> None:
    axes = (max(1, round(a * 2**_SHIFT)), max(1, round(b * 2**_SHIFT)))
    cv2.ellipse(image, _fixed(centre), axes, angle, 0, 360, tint, -1, cv2.LINE_AA, _SHIFT)


def _fill_box(
    image: Gray, centre: NDArray[np.floating], a: float, b: float, angle: float, tint: int
) -> None:
    corners = cv2.boxPoints(((float(centre[0]), float(centre[1])), (2 * a, 2 * b), angle))
    points = np.round(corners * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(image, [points], tint, cv2.LINE_AA, _SHIFT)
