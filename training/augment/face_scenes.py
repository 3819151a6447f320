"""Scenes for training the face detector: faces and decoys pasted into pictures without faces.

In: labelled faces, pictures without faces. Out: grey scenes and where their faces are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data import (
    LABEL_SIZE,
    FacePicture,
    Gray,
    Labels,
    cut_picture,
    move_label,
    warp_picture,
)
from .drawings import draw_background
from .occluders import cover_half, draw_sunglasses
from .pasting import blend, draw_body, make_decoy, make_mask, make_texture, trace_ellipse

FACE, IGNORED = 1.0, -1.0
"""Last number of a row of labels; 0 for an empty row."""


@dataclass(frozen=True, slots=True)
class FaceSceneSpec:
    """What scenes contain; shares are probabilities."""

    size_px: int = 160
    max_faces: int = 4
    """Rows of labels; scenes have fewer."""
    min_side_px: float = 10.0
    max_side: float = 0.95
    """Of the scene."""
    small: float = 0.25
    """Faces under `small_px` beyond those of a log-uniform distribution."""
    small_px: float = 32.0
    empty: float = 0.22
    frame: float = 0.18
    """A picture with surroundings instead of a pasted face."""
    drawn: float = 0.13
    """A drawn background."""
    hard: float = 0.15
    """A background that looks like a face."""
    decoys: float = 0.45
    sunglasses: float = 0.16
    cover: float = 0.25
    squeeze: float = 0.25
    max_roll_deg: float = 60.0
    backlight: float = 0.12
    blur: float = 0.25
    jpeg: float = 0.25


@dataclass(frozen=True, slots=True)
class FaceScene:
    """A grey picture and its faces."""

    image: Gray
    labels: Labels
    """(max_faces, 14): `LABEL_SIZE` numbers in pixels, then `FACE`, `IGNORED` or 0 for none."""


@dataclass(frozen=True, slots=True)
class FaceSceneMaterial:
    """Where scenes come from."""

    faces: Sequence[FacePicture]
    frames: Sequence[FacePicture]
    """Those with surroundings."""
    backgrounds: Sequence[Gray]
    hard_backgrounds: Sequence[Gray] = ()
    """Pictures without faces that look like faces to a network."""


def render_face_scene(
    material: FaceSceneMaterial, spec: FaceSceneSpec, rng: np.random.Generator
) -> FaceScene:
    """Compose one scene."""
    size = spec.size_px
    image = _make_background(material, spec, rng)
    labels: list[Labels] = []
    is_empty = rng.random() < spec.empty
    if not is_empty and material.frames and rng.random() < spec.frame:
        frame = material.frames[int(rng.integers(len(material.frames)))]
        image, label = _place_frame(frame, image, material, spec, rng)
        labels.append(label)
    elif not is_empty:
        count = 1 + int(rng.random() < 0.35) + int(rng.random() < 0.15)
        for _ in range(count):
            face = material.faces[int(rng.integers(len(material.faces)))]
            pasted = _paste_face(image, face, labels, material, spec, rng)
            if pasted is not None:
                labels.append(pasted)
    num_decoys = int(rng.random() < spec.decoys) * int(rng.integers(1, 4))
    for _ in range(num_decoys):
        _paste_decoy(image, labels, material, spec, rng)
    if labels and rng.random() < spec.backlight:
        image = _light_from_behind(image, labels, rng)
    image = _degrade(image, spec, rng)
    rows = np.zeros((spec.max_faces, LABEL_SIZE + 1), np.float32)
    for row, label in zip(rows, labels, strict=False):
        row[:LABEL_SIZE] = label
        inside = 0 <= label[0] < size and 0 <= label[1] < size
        row[LABEL_SIZE] = FACE if inside and label[2] >= spec.min_side_px * 0.9 else IGNORED
    return FaceScene(image, rows)


def _pick_side(spec: FaceSceneSpec, rng: np.random.Generator) -> float:
    """Log-uniform, since the network should find small faces as often as large ones."""
    high = spec.small_px if rng.random() < spec.small else spec.size_px * spec.max_side
    return float(np.exp(rng.uniform(np.log(spec.min_side_px), np.log(high))))


def _make_background(
    material: FaceSceneMaterial, spec: FaceSceneSpec, rng: np.random.Generator
) -> Gray:
    kind = rng.random()
    if not material.backgrounds or kind < spec.drawn:
        return draw_background(spec.size_px, rng)
    if material.hard_backgrounds and kind < spec.drawn + spec.hard:
        return cut_picture(material.hard_backgrounds, (spec.size_px, spec.size_px), rng)
    return cut_picture(material.backgrounds, (spec.size_px, spec.size_px), rng)


def _make_matrix(
    label: Labels,
    side: float,
    centre: tuple[float, float],
    spec: FaceSceneSpec,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return a transform that brings the face to `centre`, about `side` wide."""
    half = rng.random() < 0.5
    limit = spec.max_roll_deg
    roll = np.radians(rng.normal(0, 10) if half else rng.uniform(-limit, limit))
    stretch = np.eye(2)
    if rng.random() < spec.squeeze:
        stretch[int(rng.random() < 0.4)] *= rng.uniform(0.45, 1)
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    linear = stretch @ rotation * (side / float(label[2]))
    if rng.random() < 0.5:  # a mirror image: `move_label` swaps left and right
        linear = linear @ np.diag([-1.0, 1.0])
    offset = np.asarray(centre) - linear @ label[:2]
    return np.concatenate([linear, offset[:, None]], 1)


def _place_frame(
    frame: FacePicture,
    background: Gray,
    material: FaceSceneMaterial,
    spec: FaceSceneSpec,
    rng: np.random.Generator,
) -> tuple[Gray, Labels]:
    """Fill the scene with a picture that has surroundings, at random size and place."""
    size = spec.size_px
    image = frame.image.copy()
    _occlude(image, frame.label, material, spec, rng)
    side = _pick_side(spec, rng)
    margin = min(side * 0.4, size / 2)
    x, y = rng.uniform(margin, size - margin, 2)
    matrix = _make_matrix(frame.label, side, (x, y), spec, rng)
    moved = warp_picture(image, matrix, (size, size), cv2.BORDER_REPLICATE)
    if rng.random() < 0.4:
        inside = warp_picture(np.full_like(image, 255), matrix, (size, size), cv2.BORDER_CONSTANT)
        moved = np.where(inside > 127, moved, background)
    return moved, move_label(frame.label, matrix)


def _occlude(
    image: Gray,
    label: Labels,
    material: FaceSceneMaterial,
    spec: FaceSceneSpec,
    rng: np.random.Generator,
) -> None:
    if rng.random() < spec.sunglasses:
        draw_sunglasses(image, label[3:], rng)
    elif rng.random() < spec.cover:
        cover_half(image, label[:3], make_texture(material.backgrounds, rng), rng)


def _paste_face(
    image: Gray,
    face: FacePicture,
    labels: list[Labels],
    material: FaceSceneMaterial,
    spec: FaceSceneSpec,
    rng: np.random.Generator,
) -> Labels | None:
    """Paste a face where no other is; None when there is no room."""
    place = _find_place(labels, spec, rng)
    if place is None:
        return None
    x, y, side = place
    patch = face.image.copy()
    matrix = _make_matrix(face.label, side, (x, y), spec, rng)
    if rng.random() < 0.4:
        draw_body(image, matrix, face.label, float(patch.mean()), rng)
    mask = make_mask(patch.shape, rng)
    _occlude(patch, face.label, material, spec, rng)
    blend(image, patch, mask, matrix, rng)
    return move_label(face.label, matrix)


def _find_place(
    labels: Sequence[Labels], spec: FaceSceneSpec, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    for _ in range(6):
        side = _pick_side(spec, rng)
        margin = min(side * 0.35, spec.size_px / 2)
        x, y = rng.uniform(margin, spec.size_px - margin, 2)
        if all(
            max(abs(x - other[0]), abs(y - other[1])) > 0.65 * (side + other[2]) for other in labels
        ):
            return float(x), float(y), side
    return None


def _paste_decoy(
    image: Gray,
    labels: Sequence[Labels],
    material: FaceSceneMaterial,
    spec: FaceSceneSpec,
    rng: np.random.Generator,
) -> None:
    """Paste what is no face just as faces are pasted."""
    place = _find_place(labels, spec, rng)
    if place is None:
        return
    x, y, side = place
    patch = make_decoy(material.faces, material.backgrounds, rng)
    label = np.zeros(LABEL_SIZE, np.float32)
    label[:3] = patch.shape[1] / 2, patch.shape[0] / 2, patch.shape[1] * 0.95
    matrix = _make_matrix(label, side, (x, y), spec, rng)
    if rng.random() < 0.3:
        draw_body(image, matrix, label, float(patch.mean()), rng)
    blend(image, patch, make_mask(patch.shape, rng), matrix, rng)


def _light_from_behind(image: Gray, labels: Sequence[Labels], rng: np.random.Generator) -> Gray:
    """Darken the faces and brighten what is around them."""
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    for label in labels:
        x, y, side = (float(v) for v in label[:3])
        head = trace_ellipse(x, y, side * 0.65, side * 0.8)
        body = trace_ellipse(x, y + side * 1.8, side * 1.3, side)
        for outline in (head, body):
            cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    soft = float(np.exp(rng.uniform(np.log(1), np.log(20))))
    alpha = cv2.GaussianBlur(mask, (0, 0), soft).astype(np.float32) / 255
    bright = image * rng.uniform(1.2, 3.0) + rng.uniform(0, 160)
    dark = image * rng.uniform(0.08, 0.5)
    return np.clip(bright + (dark - bright) * alpha, 0, 255).astype(np.uint8)


def _degrade(image: Gray, spec: FaceSceneSpec, rng: np.random.Generator) -> Gray:
    """Blur and compress some scenes."""
    if rng.random() < spec.blur:
        blurred = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8)))
        image = np.asarray(blurred, np.uint8)
    if rng.random() < spec.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 90))]
        _, data = cv2.imencode(".jpg", image, quality)
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    return image
