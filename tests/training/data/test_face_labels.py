"""Labels by a teacher, from FER+, videos and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.training.data import (
    FeatureCache,
    Teacher,
    load_people,
    load_pictures,
    load_tight_faces,
)
from emotion_edge.training.data.face_labels import label_tight_face, list_files
from emotion_edge.training.errors import DatasetError


class DarkTeacher(Teacher):
    """Labels a picture's centre where the picture is dark there."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.num_asked = 0

    def label(self, bgr: np.ndarray, min_score: float) -> np.ndarray | None:
        self.num_asked += 1
        height, width = bgr.shape[:2]
        if bgr[height // 2, width // 2, 0] > 128:
            return None
        x, y = width / 2, height / 2
        return np.array([x, y, height / 2, *(x, y) * 5], np.float32)


@pytest.fixture
def teacher(tmp_path: Path) -> DarkTeacher:
    file = tmp_path / "teacher"
    file.write_bytes(b"x")
    return DarkTeacher(file)


def write_image(path: Path, tint: int, size: tuple[int, int] = (90, 160)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), tint, np.uint8))


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.onnx"):
        Teacher(tmp_path / "none.onnx")


def test_a_file_that_is_no_teacher_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_bytes(b"text")
    with pytest.raises(DatasetError, match=r"wrong\.onnx"):
        Teacher(tmp_path / "wrong.onnx")


def test_labels_of_tight_faces_are_in_their_own_pixels(teacher: DarkTeacher) -> None:
    """The teacher sees an enlarged picture with a border."""
    face = label_tight_face(teacher, np.zeros((48, 48), np.uint8))
    assert face is not None
    assert face.label[:2] == pytest.approx([24, 24])
    assert face.label[2] == pytest.approx(96 / 120 * 48)
    assert label_tight_face(teacher, np.full((48, 48), 255, np.uint8)) is None


def test_labels_of_ferplus_are_made_once(
    write_ferplus: Callable[..., Path], tmp_path: Path, teacher: DarkTeacher
) -> None:
    root = write_ferplus({f"{i}.png": {"anger": 10} for i in range(4)})
    cache = FeatureCache(tmp_path / "cache")
    try:
        faces = load_tight_faces(root, "train", teacher, cache)
    except DatasetError:
        pytest.skip("the drawn faces are all bright")
    asked = teacher.num_asked
    again = load_tight_faces(root, "train", teacher, cache)
    assert teacher.num_asked == asked
    assert [face.label.tolist() for face in again] == [face.label.tolist() for face in faces]


def test_people_come_from_pictures(tmp_path: Path, teacher: DarkTeacher) -> None:
    write_image(tmp_path / "p" / "a.png", 20)
    write_image(tmp_path / "p" / "bright.png", 250)
    (tmp_path / "p" / "broken.png").write_bytes(b"text")
    (tmp_path / "p" / "notes.txt").write_text("text")
    people = load_people(tmp_path / "p", teacher)
    assert list(people) == ["a.png"]
    assert people["a.png"][0].has_surroundings
    assert people["a.png"][0].image.shape == (90, 160)


def test_a_folder_without_people_is_named(tmp_path: Path, teacher: DarkTeacher) -> None:
    write_image(tmp_path / "p" / "bright.png", 250)
    with pytest.raises(DatasetError, match=str(tmp_path / "p")):
        load_people(tmp_path / "p", teacher)


def test_pictures_are_grey_and_not_too_large(tmp_path: Path) -> None:
    write_image(tmp_path / "a" / "1.png", 90, (400, 1600))
    write_image(tmp_path / "2.png", 90, (8, 8))
    pictures = load_pictures(tmp_path)
    assert [picture.shape for picture in pictures] == [(200, 800)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        load_pictures(tmp_path / "empty")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none"):
        list_files(tmp_path / "none", (".png",))


def test_the_real_teacher_labels_real_faces(shared_data: Path) -> None:
    teacher = Teacher(shared_data / "models" / "yunet" / "yunet_n_320_320.onnx")
    people = load_people(shared_data / "ravdess" / "clips" / "Actor_01", teacher, every_s=2.0)
    for frames in people.values():
        for frame in frames:
            left, right = frame.label[3], frame.label[5]
            assert left < right
            assert 60 < frame.label[2] < 250
