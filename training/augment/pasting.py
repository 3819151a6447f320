"""Pastes faces, and what is none, into backgrounds.

In: a grey scene, a patch and where it goes. Out: the scene with the patch, in place. Edge, light
and surroundings vary, and what is no face is pasted in the same way, so that a network cannot learn
the seam.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import FacePicture, Gray, Labels, cut_picture, warp_picture
from .drawings import draw_background

PATCH_PX = 48
"""Width of a decoy, as of a FER+ face."""


def make_mask(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return how much of a patch is pasted: all, a soft square, an ellipse of any tightness."""
    height, width = shape
    kind = rng.random()
    if kind < 0.2:
        return np.full((height, width), 255, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if kind < 0.4:
        inset = round(width * rng.uniform(0.03, 0.15))
        mask[inset : height - inset, inset : width - inset] = 255
    else:
        axes = round(width * rng.uniform(0.34, 0.5)), round(height * rng.uniform(0.42, 0.58))
        centre = width // 2, height // 2
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        mask[[0, -1]] = mask[:, [0, -1]] = 0
    soft = rng.uniform(0.005, 0.08) * width
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.3, soft)), np.uint8)


def blend(
    image: Gray,
    patch: Gray,
    mask: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Paste `patch` where `mask` says, in light of its own or of the place."""
    size = image.shape[0]
    moved = warp_picture(patch, matrix, (size, size), cv2.BORDER_REPLICATE).astype(np.float32)
    alpha = warp_picture(mask, matrix, (size, size), cv2.BORDER_CONSTANT).astype(np.float32) / 255
    if rng.random() < 0.5:
        covered = alpha > 0.5
        if covered.any():
            moved += (float(image[covered].mean()) - float(moved[covered].mean())) * rng.uniform(
                0.3, 1.0
            )
    else:
        moved = moved * rng.uniform(0.5, 1.3) + rng.uniform(-20, 20)
    blended = image + (np.clip(moved, 0, 255) - image) * alpha
    image[:] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def draw_body(
    image: Gray,
    matrix: NDArray[np.float64],
    label: Labels,
    skin: float,
    rng: np.random.Generator,
) -> None:
    """Draw hair, neck and shoulders, roughly, behind a face to be pasted."""
    x, y, side = (float(v) for v in label[:3])
    half = side / 2
    tints = [int(v) for v in rng.uniform(0, 255, 2)]
    neck = int(np.clip(skin * rng.uniform(0.6, 1.0), 0, 255))
    shoulders = y + half * rng.uniform(1.2, 1.6)
    wide = half * rng.uniform(1.8, 3.2)
    outlines = [
        (tints[0], trace_ellipse(x, y + half * 3.2, wide, y + half * 3.2 - shoulders)),
        (neck, trace_ellipse(x, y + half * 0.9, half * rng.uniform(0.45, 0.7), half * 0.9)),
        (
            tints[1],
            trace_ellipse(
                x,
                y - half * rng.uniform(0.05, 0.3),
                half * rng.uniform(0.9, 1.25),
                half * rng.uniform(1.1, 1.4),
            ),
        ),
        (int(np.clip(skin, 0, 255)), trace_ellipse(x, y + half * 0.1, half * 0.8, half * 1.05)),
    ]
    layer = image.copy()
    for tint, outline in outlines:
        points = outline @ matrix[:, :2].T + matrix[:, 2]
        cv2.fillPoly(layer, [np.round(points * 16).astype(np.int32)], tint, cv2.LINE_AA, 4)
    grain = rng.normal(0, rng.uniform(0, 12), image.shape)
    drawn = layer != image
    layer = np.where(drawn, np.clip(layer + grain, 0, 255).astype(np.uint8), layer)
    scale = float(np.hypot(*matrix[:, 1])) * side
    image[:] = cv2.GaussianBlur(layer, (0, 0), 0.3 + 0.02 * scale)


def trace_ellipse(x: float, y: float, a: float, b: float) -> NDArray[np.float64]:
    """Return the outline of an ellipse with semi-axes `a` and `b` (25, 2)."""
    angle = np.linspace(0, 2 * np.pi, 25)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1)


def make_texture(backgrounds: Sequence[Gray], rng: np.random.Generator) -> Gray:
    """Return a part of a picture, or a drawing, of 64 pixels."""
    if not backgrounds or rng.random() < 0.3:
        return draw_background(64, rng)
    return cut_picture(backgrounds, (64, 64), rng)


def make_decoy(
    faces: Sequence[FacePicture], backgrounds: Sequence[Gray], rng: np.random.Generator
) -> Gray:
    """Return a texture, a blot or a scrambled face, `PATCH_PX` wide."""
    kind = rng.random()
    if kind < 0.4:
        texture = make_texture(backgrounds, rng)
        return _resize(texture)
    face = _resize(faces[int(rng.integers(len(faces)))].image)
    if kind < 0.55:  # only its light
        return _blur(face, float(rng.uniform(6, 12)))
    parts = int(rng.choice([2, 3, 4, 6]))
    side = PATCH_PX // parts
    blocks = face.reshape(parts, side, parts, side).swapaxes(1, 2).reshape(-1, side, side)
    order = _derange(parts * parts, rng)
    mixed = blocks[order].reshape(parts, parts, side, side).swapaxes(1, 2)
    scrambled = np.ascontiguousarray(mixed.reshape(PATCH_PX, PATCH_PX))
    if rng.random() < 0.5:
        scrambled = _blur(scrambled, float(rng.uniform(0.4, 1.5)))
    return scrambled


def _resize(image: Gray) -> Gray:
    size = (PATCH_PX, PATCH_PX)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _blur(image: Gray, deviation_px: float) -> Gray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), deviation_px), np.uint8)


def _derange(count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return an order in which nothing is at its place."""
    while True:
        order = rng.permutation(count)
        if count < 3 or not (order == np.arange(count)).any():
            return order
