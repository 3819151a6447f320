"""Takes: faces and sound on one clock, and boxes that do not jump."""

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
from emotion_edge.training.data.takes import load_face_zip, load_recording, read_faces
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]


class Script:
    """A detector that finds what it is told, picture by picture."""

    def __init__(self, found: list[list[Detection]]) -> None:
        self.found: Iterator[list[Detection]] = iter(found)

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        assert pixel_format == "rgb8"
        return next(self.found)


def gray_video(make_video: Write, num: int) -> Path:
    return make_video("a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * num)


def test_drawn_face_is_followed(make_video: Write) -> None:
    """Box around it in each picture, in pixels of the picture."""
    views = list(read_faces(make_video("a.mp4"), open_detector(), 0.2))
    assert [view.t_s for view in views] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    for view in views:
        assert view.image.shape == (360, 640, 3)
        assert view.box is not None
        x, y, size = view.box
        assert (x + size / 2, y + size / 2) == pytest.approx((320, 185), abs=40)
        assert 170 < size < 280


def test_box_is_held_when_the_detector_errs(make_video: Write) -> None:
    """Nothing known before the first finding; the last known one while there is none; one wild
    finding moves nothing; of several faces the largest counts."""
    face, small, wild = Detection(40, 30, 20, 1), Detection(10, 10, 8, 9), Detection(90, 9, 60, 1)
    found = [[], [small, face], [], [face], [face], [wild], [face], []]
    views = list(read_faces(gray_video(make_video, 8), Script(found), 0))
    assert views[0].box is None
    assert {view.box for view in views[1:]} == {(30, 20, 20)}


def test_box_follows_a_real_move(make_video: Write) -> None:
    """Three findings of five at the new place."""
    found = [[Detection(40, 30, 20, 1)]] * 5 + [[Detection(60, 40, 30, 1)]] * 3
    views = list(read_faces(gray_video(make_video, 8), Script(found), 0))
    assert views[6].box == (30, 20, 20)
    assert views[7].box == (45, 25, 30)


@pytest.mark.parametrize("late_s", [0.0, 0.3])
def test_recording_has_one_clock(make_video: Write, late_s: float) -> None:
    """Sample 0 is at the time of the first picture, also when the sound starts later."""
    audio = np.full(8_000, 0.5, np.float32)
    clip = load_recording(make_video("a.mkv", audio=audio, audio_from_s=late_s), 16_000)
    late = round(late_s * 16_000)
    assert len(clip.audio) == pytest.approx(8_000 + late, abs=16)
    assert np.abs(clip.audio[: max(0, late - 16)]).max(initial=0) == 0
    np.testing.assert_allclose(clip.audio[late + 16 : late + 7_900], 0.5, atol=1e-3)
    assert clip.faces[0].t_s == pytest.approx(0, abs=1e-3)
    assert len(clip.faces) == 5


def test_recording_without_a_face(make_video: Write) -> None:
    """Named; so is a film without sound."""
    dark = [np.zeros((90, 160, 3), np.uint8)] * 3
    video = make_video("a.mkv", dark, audio=np.zeros(1_600, np.float32))
    with pytest.raises(DatasetError, match=r"a\.mkv: no face is found"):
        load_recording(video, 16_000)
    with pytest.raises(DatasetError, match=r"b\.mp4: holds no sound"):
        load_recording(make_video("b.mp4"), 16_000)


def webp(level: int, size_px: int = 224) -> bytes:
    return cv2.imencode(".webp", np.full((size_px, size_px), level, np.uint8))[1].tobytes()


def test_archive_of_faces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Clip by clip, by picture number, whatever the order in the archive; what is broken is named
    and left out."""
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
    assert "01-01-03-01-01-01-01/02.webp cannot be read" in caplog.text


@pytest.mark.parametrize("data", [None, b"", b"no archive"])
def test_archive_that_is_none(tmp_path: Path, data: bytes | None) -> None:
    """Missing, empty, something else: one line that names it; nothing in it: that too."""
    file = tmp_path / "faces.zip"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"faces\.zip: not an archive of faces"):
        list(load_face_zip(file))
    with zipfile.ZipFile(file, "w"):
        pass
    with pytest.raises(DatasetError, match=r"faces\.zip: holds no face"):
        list(load_face_zip(file))


def test_real_recording(shared_data: Path) -> None:
    """As published: picture and sound of 3.3 s; the sound lags the recording by 33 ms."""
    from emotion_edge.training.data.ravdess import load_voice

    video = shared_data / "clips" / "01-01-01-01-01-01-01.mp4"
    recording = shared_data / "ravdess" / "audio" / "Actor_01" / "03-01-01-01-01-01-01.flac"
    if not (video.is_file() and recording.is_file()):
        pytest.skip(f"no {video} or {recording}")
    clip = load_recording(video, 16_000)
    assert len(clip.faces) == 17
    voice = load_voice(recording, 16_000)
    match = np.correlate(clip.audio[:40_000], voice[8_000:24_000], "valid")
    assert (match.argmax() - 8_000) / 16 == pytest.approx(33, abs=2)


def test_real_archive(shared_data: Path) -> None:
    """26 clips of 19 pictures."""
    clips = list(load_face_zip(shared_data / "ravdess" / "faces_actor01.zip"))
    assert len(clips) == 26
    assert {images.shape for _, images in clips} == {(19, 224, 224)}
