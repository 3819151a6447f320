"""Faces of videos and archives: boxes that do not jump, images in order."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.face_detector import Detection, open_detector
from emotion_edge.training.data.faces import load_face_zip, read_faces
from emotion_edge.training.data.media import decode_audio
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]


class ScriptedDetector:
    """A detector that returns given detections, frame by frame."""

    def __init__(self, detections: list[list[Detection]]) -> None:
        self.detections: Iterator[list[Detection]] = iter(detections)

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        assert pixel_format == "rgb8"
        return next(self.detections)


def gray_video(make_video: Write, num: int) -> Path:
    return make_video("a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * num)


def test_drawn_face_is_followed(make_video: Write) -> None:
    """Each frame has a box around the face, in pixels of the frame."""
    views = list(read_faces(make_video("a.mp4"), open_detector(), 0.2))
    assert [view.t_s for view in views] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    for view in views:
        assert view.image.shape == (360, 640, 3)
        assert view.box is not None
        x, y, size, _ = view.box
        assert (x + size / 2, y + size / 2) == pytest.approx((320, 185), abs=40)
        assert 170 < size < 280


def test_box_is_held_when_the_detector_errs(make_video: Write) -> None:
    """No box before the first detection; the latest box without a detection; a single wrong
    detection does not move it; the largest of several faces counts."""
    face, small, wrong = Detection(40, 30, 20, 1), Detection(10, 10, 8, 9), Detection(90, 9, 60, 1)
    detector = ScriptedDetector([[], [small, face], [], [face], [face], [wrong], [face], []])
    views = list(read_faces(gray_video(make_video, 8), detector, 0))
    assert views[0].box is None
    assert {view.box for view in views[1:]} == {(30, 20, 20, 0)}


def test_box_follows_a_real_move(make_video: Write) -> None:
    """The box moves after three of five detections at the new position."""
    detector = ScriptedDetector(
        [[Detection(40, 30, 20, 1)]] * 5 + [[Detection(60, 40, 30, 1, 0.2)]] * 3
    )
    views = list(read_faces(gray_video(make_video, 8), detector, 0))
    assert views[6].box == (30, 20, 20, 0)
    assert views[7].box == (45, 25, 30, 0.2)


def webp(level: int, size_px: int = 224) -> bytes:
    return cv2.imencode(".webp", np.full((size_px, size_px), level, np.uint8))[1].tobytes()


def test_archive_of_faces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Clips and images in the order of their names, for any order in the archive; images that
    cannot be decoded are logged and skipped."""
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for name, data in (
            ("01-01-03-01-01-01-01/01.webp", webp(20)),
            ("01-01-01-01-01-01-01/00.webp", webp(50)),
            ("01-01-03-01-01-01-01/00.webp", webp(10)),
            ("01-01-03-01-01-01-01/02.webp", b"broken"),
            ("01-01-03-01-01-01-01/03.webp", webp(30, 100)),
            ("01-01-04-01-01-01-01/00.webp", b""),
        ):
            archive.writestr(name, data)
    with caplog.at_level(logging.WARNING):
        clips = dict(load_face_zip(tmp_path / "faces.zip"))
    assert list(clips) == ["01-01-01-01-01-01-01", "01-01-03-01-01-01-01"]
    assert clips["01-01-03-01-01-01-01"].shape == (2, 224, 224)
    assert clips["01-01-03-01-01-01-01"].mean(axis=(1, 2)) == pytest.approx([10, 20], abs=3)
    assert len(caplog.records) == 3
    assert "01-01-03-01-01-01-01/02.webp" in caplog.text


@pytest.mark.parametrize("data", [None, b"", b"no archive"])
def test_archive_that_is_none(tmp_path: Path, data: bytes | None) -> None:
    """Missing, empty or something else, and an archive without faces: the error names the file."""
    file = tmp_path / "faces.zip"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"faces\.zip"):
        list(load_face_zip(file))
    with zipfile.ZipFile(file, "w"):
        pass
    with pytest.raises(DatasetError, match=r"faces\.zip"):
        list(load_face_zip(file))


def test_real_recording(shared_data: Path) -> None:
    """A published video has 17 faces in 3.3 s, and its audio lags the voice recording by 33 ms."""
    video = shared_data / "clips" / "01-01-01-01-01-01-01.mp4"
    recording = shared_data / "ravdess" / "audio" / "Actor_01" / "03-01-01-01-01-01-01.flac"
    if not (video.is_file() and recording.is_file()):
        pytest.skip(f"no {video} or {recording}")
    views = read_faces(video, open_detector(), 0.2)
    assert sum(view.box is not None for view in views) == 17
    (audio, first_s), (voice, _) = decode_audio(video, 16_000), decode_audio(recording, 16_000)
    match = np.correlate(audio[:40_000], voice[8_000:24_000], "valid")
    assert first_s * 1000 + (match.argmax() - 8_000) / 16 == pytest.approx(33, abs=2)


def test_real_archive(shared_data: Path) -> None:
    """26 clips of 19 images."""
    clips = list(load_face_zip(shared_data / "ravdess" / "faces_actor01.zip"))
    assert len(clips) == 26
    assert {images.shape for _, images in clips} == {(19, 224, 224)}
