"""Scores of a face detector: what counts as found, what as a false box, under which conditions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from emotion_edge.engines.face_detector import Detection
from emotion_edge.training.data import FacePicture
from emotion_edge.training.evaluation.detection import (
    LEAST_MIN_SCORE,
    DetectionSources,
    choose_min_score,
    count_false,
    count_found,
    format_table,
    make_composites,
    overlap,
    score_detector,
)
from emotion_edge.training.evaluation.face_conditions import CONDITIONS, Chance

LABEL = np.array([320, 180, 120, 290, 160, 350, 160, 320, 185, 300, 210, 340, 210], np.float32)


class SpotDetector:
    """Sees a face of a given size around the brightest spot, where it is bright enough."""

    def __init__(self, size: float, offset: float = 0.0) -> None:
        self.size, self.offset = size, offset

    def detect(self, image: np.ndarray, pixel_format: str) -> list[Detection]:
        assert pixel_format == "bgr8"
        _, best, _, (x, y) = cv2.minMaxLoc(cv2.GaussianBlur(image[..., 0], (0, 0), 2))
        return [Detection(x + self.offset, y, self.size, 0.9)] if best > 200 else []


@pytest.fixture
def picture() -> FacePicture:
    image = np.full((360, 640), 40, np.uint8)
    cv2.circle(image, (320, 180), 20, 255, -1)
    return FacePicture(image, LABEL, True)


def test_faces_are_found_where_the_box_covers_them(picture: FacePicture) -> None:
    as_it_is = CONDITIONS[0]
    for detector, share in (
        (SpotDetector(120), 1.0),
        (SpotDetector(120, offset=80), 0.0),
        (SpotDetector(50), 0.0),
    ):
        assert count_found(detector, [picture] * 3, [], as_it_is, 0) == {"found": share, "n": 3}


def test_overlap_is_that_of_squares() -> None:
    assert overlap(Detection(320, 180, 120, 1.0), LABEL) == pytest.approx(1.0)
    assert overlap(Detection(380, 180, 120, 1.0), LABEL) == pytest.approx(1 / 3)
    assert overlap(Detection(500, 180, 120, 1.0), LABEL) == 0.0


def test_pictures_with_a_false_box_are_counted_once(picture: FacePicture) -> None:
    dark = np.zeros((64, 64), np.uint8)
    result = count_false(SpotDetector(20), [picture.image, dark, dark])
    assert result == {"pictures": 1, "n": 3, "scores": [0.9]}


def test_the_least_score_leaves_one_false_box_in_500_pictures() -> None:
    scores = [0.9, 0.8, 0.612, 0.4]
    assert choose_min_score(scores, 1000) == pytest.approx(0.62)
    assert choose_min_score(scores, 500) == pytest.approx(0.81)
    assert choose_min_score(scores, 10) == pytest.approx(0.81)
    assert choose_min_score([0.9], 10) == LEAST_MIN_SCORE


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_conditions_keep_the_label_on_the_face(picture: FacePicture, condition) -> None:
    rng = np.random.default_rng(3)
    background = np.full((360, 640), 20, np.uint8)
    changed = condition.change(picture, Chance(background, rng))
    x, y, side = changed.label[:3]
    height, width = changed.image.shape
    assert 0 <= x < width
    assert 0 <= y < height
    assert changed.image.dtype == np.uint8
    if condition.name not in ("half covered", "backlit", "sunglasses"):
        spot = changed.image[round(float(y)), round(float(x))]
        assert spot == changed.image.max() > np.median(changed.image)
    if condition.name.startswith("side"):
        assert side / width == pytest.approx(float(condition.name.split()[1]) / 100)


def test_a_score_has_a_row_per_condition_and_a_column_per_source(picture: FacePicture) -> None:
    tight = FacePicture(np.full((48, 48), 220, np.uint8), LABEL / 7)
    backgrounds = [np.full((200, 300), 30, np.uint8)]
    sources = DetectionSources({"clip": [picture]}, [tight], backgrounds)
    results = score_detector(SpotDetector(120), sources)
    assert list(results["conditions"]) == [condition.name for condition in CONDITIONS]
    assert results["conditions"]["as it is"]["clip"] == {"found": 1.0, "n": 1}
    assert results["conditions"]["light x1/8"]["clip"]["found"] == 0.0
    assert results["conditions"]["as it is"]["composites"]["n"] == 1
    assert results["false_boxes"]["n"] == 1
    assert "clip" in format_table(results)


def test_composites_contain_the_whole_face() -> None:
    label = np.array([24, 25, 46, 15, 19, 33, 19, 24, 28, 18, 37, 31, 37], np.float32)
    face = FacePicture(np.full((48, 48), 255, np.uint8), label)
    sources = DetectionSources({}, [face] * 4, [np.zeros((300, 500), np.uint8)])
    for composite in make_composites(sources, 0):
        x, y, side = composite.label[:3]
        assert side / 640 == pytest.approx(0.22)
        assert side / 2 <= x <= 640 - side / 2
        assert composite.image[round(float(y)), round(float(x))] == 255
