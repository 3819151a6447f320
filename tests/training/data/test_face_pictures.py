"""Labels follow the transform of their picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from emotion_edge.training.data import FacePicture, cut_picture, move_label, warp_picture

LABEL = np.array([60, 50, 40, 50, 42, 70, 42, 60, 52, 53, 62, 67, 62], np.float32)


def draw_landmarks(label: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """Draw a picture per landmark, with a spot at it."""
    pictures = []
    for x, y in label[3:].reshape(5, 2):
        image = np.zeros(shape, np.uint8)
        cv2.circle(image, (round(float(x)), round(float(y))), 3, 255, -1)
        pictures.append(image)
    return pictures


def find_spot(image: np.ndarray) -> np.ndarray:
    weights = image.astype(float)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


def make_matrix(roll: float, sx: float, sy: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    linear = np.diag([sx, sy]) @ np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([linear, ([70, 66] - linear @ LABEL[:2])[:, None]], 1)


@pytest.mark.parametrize(
    ("roll", "sx", "sy"), [(0, 1, 1), (40, 1, 1), (-60, 0.5, 0.5), (10, 0.5, 1), (25, -1, 1)]
)
def test_landmarks_stay_on_what_they_mark(roll: float, sx: float, sy: float) -> None:
    matrix = make_matrix(roll, sx, sy)
    moved = move_label(LABEL, matrix)
    points = moved[3:].reshape(5, 2)
    order = (1, 0, 2, 4, 3) if sx < 0 else range(5)
    for index, image in zip(order, draw_landmarks(LABEL, (100, 120)), strict=True):
        warped = warp_picture(image, matrix, (140, 130), cv2.BORDER_CONSTANT)
        assert points[index] == pytest.approx(find_spot(warped), abs=0.6)


def test_a_roll_is_clockwise_and_keeps_the_side() -> None:
    moved = move_label(LABEL, make_matrix(30, 1, 1))
    left, right = moved[3:5], moved[5:7]
    assert np.degrees(np.arctan2(*(right - left)[::-1])) == pytest.approx(30, abs=0.1)
    assert moved[2] == pytest.approx(40)


def test_the_side_measures_the_height() -> None:
    assert move_label(LABEL, make_matrix(0, 0.5, 1))[2] == pytest.approx(40)
    assert move_label(LABEL, make_matrix(0, 1, 0.5))[2] == pytest.approx(20)


def test_a_mirror_image_swaps_left_and_right() -> None:
    moved = move_label(LABEL, make_matrix(0, -1, 1))
    assert moved[3] < moved[5]
    assert moved[9] < moved[11]


def test_a_part_of_a_picture_has_the_wanted_size() -> None:
    picture = np.zeros((70, 300), np.uint8)
    rng = np.random.default_rng(0)
    for size in ((160, 160), (64, 36)):
        assert cut_picture([picture], size, rng).shape == size[::-1]


def test_a_picture_knows_its_surroundings() -> None:
    assert not FacePicture(np.zeros((48, 48), np.uint8), LABEL).has_surroundings
