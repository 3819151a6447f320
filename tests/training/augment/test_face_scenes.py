"""Scenes: what they contain, that they repeat, and that their labels are where the faces are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from emotion_edge.training.augment import (
    FACE,
    FaceSceneMaterial,
    FaceSceneSpec,
    render_face_scene,
)
from emotion_edge.training.data import FacePicture

PLAIN = FaceSceneSpec(
    empty=0.0,
    frame=0.0,
    drawn=0.0,
    decoys=0.0,
    sunglasses=0.0,
    cover=0.0,
    backlight=0.0,
    blur=0.0,
    jpeg=0.0,
    small=0.0,
    min_side_px=30.0,
)


def draw_face() -> FacePicture:
    """Draw a black square with a white dot at each landmark."""
    label = np.array([24, 25, 46, 15, 19, 33, 19, 24, 28, 18, 37, 31, 37], np.float32)
    image = np.zeros((48, 48), np.uint8)
    for x, y in label[3:].reshape(5, 2):
        cv2.circle(image, (int(x), int(y)), 2, 255, -1)
    return FacePicture(image, label)


@pytest.fixture
def material() -> FaceSceneMaterial:
    gray = np.full((200, 300), 100, np.uint8)
    face = draw_face()
    padded = cv2.copyMakeBorder(face.image, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=100)
    label = face.label.copy()
    label[[0, 1, *range(3, 13)]] += 40
    return FaceSceneMaterial([face], [FacePicture(padded, label, True)], [gray])


@pytest.mark.parametrize("frame", [0.0, 1.0])
def test_labels_lie_on_the_faces(material: FaceSceneMaterial, frame: float) -> None:
    """At each landmark is a bright spot."""
    rng = np.random.default_rng(1)
    count = bright = 0
    for _ in range(20):
        scene = render_face_scene(material, replace(PLAIN, frame=frame), rng)
        for row in scene.labels[scene.labels[:, 13] == FACE]:
            for x, y in row[3:13].reshape(5, 2):
                if not (6 <= x < 154 and 6 <= y < 154):
                    continue
                reach = max(2, round(float(row[2]) * 0.1))
                top, left = max(0, round(float(y)) - reach), max(0, round(float(x)) - reach)
                part = scene.image[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
                near = scene.image[round(float(y)), round(float(x))]
                bright += near > part.min() + 40
                count += 1
    assert count > 60
    assert bright > 0.9 * count  # a tight mask may cut one off


def test_the_same_random_numbers_give_the_same_scene(material: FaceSceneMaterial) -> None:
    first, second = (
        render_face_scene(material, FaceSceneSpec(), np.random.default_rng(5)) for _ in range(2)
    )
    assert (first.image == second.image).all()
    assert (first.labels == second.labels).all()


def test_empty_scenes_have_no_labels(material: FaceSceneMaterial) -> None:
    rng = np.random.default_rng(0)
    spec = replace(FaceSceneSpec(), empty=1.0)
    assert not any(render_face_scene(material, spec, rng).labels.any() for _ in range(20))


def test_scenes_of_any_kind_have_their_size(material: FaceSceneMaterial) -> None:
    rng = np.random.default_rng(0)
    for size in (96, 160):
        spec = replace(FaceSceneSpec(), size_px=size, drawn=0.5, decoys=0.9, backlight=0.5)
        for _ in range(25):
            scene = render_face_scene(material, spec, rng)
            assert scene.image.shape == (size, size)
            assert scene.image.dtype == np.uint8
            assert scene.labels.shape == (spec.max_faces, 14)


def test_hard_backgrounds_are_used(material: FaceSceneMaterial) -> None:
    hard = np.full((100, 100), 37, np.uint8)
    spec = replace(PLAIN, empty=1.0, hard=0.5)
    rng = np.random.default_rng(0)
    with_hard = replace(material, hard_backgrounds=[hard])
    tints = [render_face_scene(with_hard, spec, rng).image.mean() for _ in range(40)]
    assert {37.0, 100.0} == set(tints)
