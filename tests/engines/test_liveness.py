"""A picture of a face, such as a poster, is told from a living face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.face_detector import Detection, open_detector
from emotion_edge.engines.face_tracker import FaceBox, FaceTracker
from emotion_edge.engines.liveness import Scene, compare_crops, cut_crop
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.messages import VideoFrame

Image = NDArray[np.uint8]
STEP_NS = 125_000_000
SQUARE = (320.0, 185.0, 230.0)
"""Centre and side of the face that `draw_face` draws."""
CLIPS = ("01-01-01-01-01-01-01.mp4", "01-01-08-01-01-02-01.mp4", "pexels_expressions_silent.mp4")


class Jittering:
    """A detector that finds the face where it is, give or take the detectors' jitter."""

    def __init__(self) -> None:
        self.place = SQUARE
        self._rng = np.random.default_rng(5)

    def detect(self, image: Image, pixel_format: str) -> list[Detection]:
        x, y, side = np.array(self.place) + self.place[2] * self._rng.uniform(-0.02, 0.02, 3)
        return [Detection(x, y, side, 1.0)]


def watch(
    frames: Iterator[Image], place: Callable[[int], tuple[float, float, float]]
) -> list[bool]:
    """Whether the face is trusted in each of the frames, searched eight times a second."""
    detector = Jittering()
    face_tracker = FaceTracker(detector)
    trusted = []
    for n, image in enumerate(frames):
        detector.place = place(n)
        (box,) = face_tracker.track(VideoFrame(n * STEP_NS, n, image))
        trusted.append(box.trusted)
    return trusted


def add_noise(image: NDArray[np.float32], sigma: float, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def film_poster(
    seconds: float,
    noise: float = 2.0,
    flicker: float = 0.0,
    shake_px: float = 0.0,
    scale: float = 1.0,
    brightness: float = 0.8,
) -> Iterator[Image]:
    """A face that is a picture, filmed by a camera with noise, under flickering light, by a hand
    that shakes."""
    rng = np.random.default_rng(1)
    image = brightness * draw_face(2.0).astype(np.float32)
    height, width = image.shape[:2]
    for n in range(round(8 * seconds)):
        shift = rng.normal(0, shake_px, 2)
        turn = cv2.getRotationMatrix2D(SQUARE[:2], float(rng.normal(0, shake_px / 6)), scale)
        turn[:, 2] += shift
        shaken = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        yield add_noise(shaken * (1 + rng.normal(0, flicker)), noise, n)


def stay(scale: float = 1.0) -> Callable[[int], tuple[float, float, float]]:
    return lambda _: (SQUARE[0], SQUARE[1], SQUARE[2] * scale)


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 1.0),
        ({"noise": 6.0}, 1.0),
        ({"flicker": 0.05}, 1.0),
        ({"shake_px": 3.0}, 1.0),
        ({"noise": 3.0, "scale": 0.3}, 0.3),
        ({"flicker": 0.03, "shake_px": 1.0, "noise": 4.0, "scale": 0.5}, 0.5),
    ],
)
def test_poster_is_not_trusted(options: dict[str, float], scale: float) -> None:
    """After three seconds, in a camera's noise, under flickering light and in a shaking hand."""
    trusted = watch(film_poster(5.0, **options), stay(scale))
    assert all(trusted[:20])
    assert not any(trusted[30:])


@pytest.mark.parametrize("brightness", [1.0, 0.5])
@pytest.mark.parametrize("moves_at_s", [0, 4])
def test_face_that_moves_is_trusted(moves_at_s: int, brightness: float) -> None:
    """One motion is enough, for as long as the face is followed; one that comes late is too."""

    def frames() -> Iterator[Image]:
        poster = film_poster(12.0, brightness=brightness)
        for n, still in enumerate(poster):
            t_s = n / 8
            if moves_at_s <= t_s < moves_at_s + 2:
                face = brightness * draw_face(2.0 + t_s - moves_at_s).astype(np.float32)
                yield add_noise(face, 2.0, n)
            else:
                yield still

    trusted = watch(frames(), stay())
    assert all(trusted[8 * (moves_at_s + 2) :])
    assert all(trusted[:20])


def test_moving_picture_is_a_picture() -> None:
    """One that is carried through the room moves as a whole."""
    image = 0.8 * draw_face(2.0).astype(np.float32)

    def place(n: int) -> tuple[float, float, float]:
        return SQUARE[0] + 2 * (n % 20), SQUARE[1], SQUARE[2]

    frames = (add_noise(np.roll(image, 2 * (n % 20), axis=1), 2.0, n) for n in range(40))
    assert not watch(frames, place)[-1]


@pytest.mark.parametrize("encoded", [False, True])
def test_still_image_is_exempt(encoded: bool) -> None:
    """A picture file, a cover or a slide has no motion by nature, also as a video."""
    image = draw_face(2.0)
    if encoded:
        image = cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR)
    frames = iter([image] * 80)
    assert all(watch(frames, stay()))


def test_face_too_dark_to_tell_is_trusted() -> None:
    """Where noise hides all motion, nothing is concluded from its absence."""
    frames = film_poster(6.0, noise=4.0, brightness=0.05)
    assert all(watch(frames, stay()))


@pytest.mark.parametrize("name", CLIPS)
def test_real_faces_move_within_a_second(shared_data: Path, name: str) -> None:
    """In every second of the clips."""
    clip = shared_data / "clips" / name
    if not clip.is_file():
        pytest.skip(f"no {clip}")
    changes: list[str] = []
    crops: list[NDArray[np.float32]] = []
    due_ns = 0
    boxes: tuple[FaceBox, ...] = ()
    face_tracker = FaceTracker(open_detector(""))
    for frame in MediaFile(clip).frames():
        if frame.t_ns < due_ns:
            continue
        due_ns = frame.t_ns + STEP_NS
        boxes = face_tracker.track(frame) or boxes
        square = boxes[0].x, boxes[0].y, boxes[0].size
        crops.append(cut_crop(frame.image, frame.format, square))
        if len(crops) > 4:
            changes.append(compare_crops(crops[-5], crops[-1]))
    seconds = [changes[n : n + 8] for n in range(len(changes) - 7)]
    assert len(seconds) >= 10
    assert sum("moved" in second for second in seconds) >= 0.99 * len(seconds)


def test_scene() -> None:
    """It moves by a sensor's noise alone, in every pixel format; a still image does not."""
    rng = np.random.default_rng(0)
    for pixel_format, shape in (
        ("bgr8", (90, 160, 3)),
        ("yuyv", (90, 160, 2)),
        ("nv12", (135, 160)),
    ):
        scene = Scene()
        base = np.full(shape, 100, np.uint8)
        noisy = [base + rng.integers(0, 3, shape, np.uint8) for _ in range(3)]
        for image, moves in zip([*noisy, noisy[-1]], (False, True, True, False), strict=True):
            scene.update(image, pixel_format)
            assert scene.moves == moves
        scene.update(np.zeros((3, 3, *shape[2:]) if shape[2:] else (6, 4), np.uint8), pixel_format)
        assert not scene.moves
