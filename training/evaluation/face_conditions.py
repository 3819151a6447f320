"""Conditions under which a face detector is scored.

In: a grey picture with one face (`data.face_scenes.FacePicture`). Out: the picture dark, flat,
turned, occluded, squeezed or with a smaller face, and the label moved with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..augment import cover_half, draw_sunglasses
from ..data import FacePicture, move_label, warp_picture

Gray = NDArray[np.uint8]


class Chance(NamedTuple):
    """What a condition may draw on."""

    background: Gray
    """A picture without faces, as large as the one that changes."""
    rng: np.random.Generator


Change = Callable[[FacePicture, Chance], FacePicture]


@dataclass(frozen=True, slots=True)
class FaceCondition:
    """One row of the table."""

    name: str
    goal: float
    """Least share of faces to be found."""
    change: Change


def keep(picture: FacePicture, _: Chance) -> FacePicture:
    """Return the picture as it is."""
    return picture


def dim(gain: float) -> Change:
    """Return a change that multiplies the light, in the 256 steps of a camera."""

    def change(picture: FacePicture, _: Chance) -> FacePicture:
        return _replace(picture, np.round(picture.image * gain))

    return change


def flatten(contrast: float) -> Change:
    """Return a change that multiplies the distance from the mean."""

    def change(picture: FacePicture, _: Chance) -> FacePicture:
        mean = picture.image.mean()
        return _replace(picture, np.round(mean + (picture.image - mean) * contrast))

    return change


def roll(degrees: float) -> Change:
    """Return a change that turns the picture about the face, to either side."""

    def change(picture: FacePicture, chance: Chance) -> FacePicture:
        angle = np.radians(degrees if chance.rng.random() < 0.5 else -degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return _move(picture, turn, picture.image.shape[::-1])

    return change


def squeeze(factor: float) -> Change:
    """Return a change that squeezes the width."""

    def change(picture: FacePicture, _: Chance) -> FacePicture:
        height, width = picture.image.shape
        size = (round(width * factor), height)
        matrix = np.array([[factor, 0.0, 0.0], [0.0, 1.0, 0.0]])
        image = cv2.resize(picture.image, size, interpolation=cv2.INTER_AREA)
        return FacePicture(
            np.asarray(image, np.uint8),
            move_label(picture.label, matrix),
            picture.has_surroundings,
        )

    return change


def resize_face(share: float) -> Change:
    """Return a change after which the face is `share` of the picture's width, in a background."""

    def change(picture: FacePicture, chance: Chance) -> FacePicture:
        height, width = picture.image.shape
        side = share * width
        margins = np.minimum(side * 0.6, np.array([width, height]) / 2)
        centre = chance.rng.uniform(margins, np.array([width, height]) - margins)
        factor = side / float(picture.label[2])
        return _zoom(picture, factor, centre, chance.background)

    return change


def wear_sunglasses(picture: FacePicture, chance: Chance) -> FacePicture:
    """Draw sunglasses."""
    image = picture.image.copy()
    draw_sunglasses(image, picture.label[3:], chance.rng)
    return _replace(picture, image)


def cover(picture: FacePicture, chance: Chance) -> FacePicture:
    """Hide half of the face."""
    image = picture.image.copy()
    cover_half(image, picture.label[:3], chance.background, chance.rng)
    return _replace(picture, image)


def light_from_behind(picture: FacePicture, _: Chance) -> FacePicture:
    """Leave a quarter of the light on the person and saturate what is around."""
    height, width = picture.image.shape
    x, y, side = (float(v) for v in picture.label[:3])
    mask = np.zeros((height, width), np.uint8)
    head = (round(side * 0.65), round(side * 0.8))
    cv2.ellipse(mask, (round(x), round(y)), head, 0, 0, 360, 255, -1)
    body = (round(side * 1.4), round(side * 1.2))
    cv2.ellipse(mask, (round(x), round(y + side * 1.8)), body, 0, 0, 360, 255, -1)
    alpha = cv2.GaussianBlur(mask, (0, 0), side * 0.06).astype(np.float32) / 255
    person, around = picture.image * 0.25, picture.image * 1.5 + 120.0
    return _replace(picture, np.round(around + (person - around) * alpha))


CONDITIONS = (
    FaceCondition("as it is", 0.99, keep),
    FaceCondition("light x1/8", 0.99, dim(1 / 8)),
    FaceCondition("light x1/16", 0.95, dim(1 / 16)),
    FaceCondition("roll 30 degrees", 0.99, roll(30)),
    FaceCondition("roll 45 degrees", 0.95, roll(45)),
    FaceCondition("sunglasses", 0.90, wear_sunglasses),
    FaceCondition("half covered", 0.95, cover),
    FaceCondition("side 50 % of the width", 0.98, resize_face(0.5)),
    FaceCondition("side 40 % of the width", 0.98, resize_face(0.4)),
    FaceCondition("side 8 % of the width", 0.98, resize_face(0.08)),
    FaceCondition("side 5 % of the width", 0.90, resize_face(0.05)),
    FaceCondition("contrast x0.1", 0.90, flatten(0.1)),
    FaceCondition("squeezed x0.5", 0.98, squeeze(0.5)),
    FaceCondition("backlit", 0.98, light_from_behind),
)


def compose(
    face: FacePicture, background: Gray, share: float, rng: np.random.Generator
) -> FacePicture:
    """Paste a tight face into a picture, `share` of its width wide: an ellipse with a soft edge, or
    the whole square."""
    height, width = background.shape
    factor = share * width / float(face.label[2])
    margin = share * width * 0.75
    centre = rng.uniform((margin, margin), (width - margin, height - margin))
    rows, columns = face.image.shape
    mask = np.zeros((rows, columns), np.uint8)
    if rng.random() < 0.5:
        axes = round(columns * 0.46), round(rows * 0.49)
        cv2.ellipse(mask, (columns // 2, rows // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), columns * 0.03), np.uint8)
    else:
        mask[:] = 255
    return _zoom(face, factor, centre, background, mask)


def _zoom(
    picture: FacePicture,
    factor: float,
    centre: NDArray[np.float64],
    background: Gray,
    mask: Gray | None = None,
) -> FacePicture:
    """Scale a picture and place the centre of its face in the background, of another size maybe."""
    height, width = picture.image.shape
    matrix = np.array([[factor, 0.0, 0.0], [0.0, factor, 0.0]])
    matrix[:, 2] = centre - factor * picture.label[:2]
    size = background.shape[::-1]
    if mask is None:
        mask = np.full((height, width), 255, np.uint8)
    moved = warp_picture(picture.image, matrix, size, cv2.BORDER_REPLICATE)
    alpha = warp_picture(mask, matrix, size, cv2.BORDER_CONSTANT).astype(np.float32) / 255
    blended = np.round(background + (moved.astype(np.float32) - background) * alpha)
    return FacePicture(blended.astype(np.uint8), move_label(picture.label, matrix))


def _move(picture: FacePicture, linear: NDArray[np.float64], size: tuple[int, ...]) -> FacePicture:
    """Turn or scale a picture about its face."""
    centre = picture.label[:2].astype(np.float64)
    matrix = np.concatenate([linear, (centre - linear @ centre)[:, None]], 1)
    image = warp_picture(picture.image, matrix, size, cv2.BORDER_REPLICATE)
    return FacePicture(image, move_label(picture.label, matrix), picture.has_surroundings)


def _replace(picture: FacePicture, image: NDArray[np.generic]) -> FacePicture:
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return FacePicture(pixels, picture.label, picture.has_surroundings)
