"""One face, chosen and followed, with a box that stays still while the face does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.face_detector import (
    Detection,
    Detector,
    YuNetDetector,
    open_detector,
)
from emotion_edge.engines.face_tracker import BoxSmoother, FaceBox, FaceTracker, choose_face
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.messages import VideoFrame

STEP_NS = 125_000_000
CLIPS = ("01-01-01-01-01-01-01.mp4", "01-01-08-01-01-02-01.mp4")


def make_frame(image: NDArray[np.uint8], t_ns: int = 0, index: int = 0) -> VideoFrame:
    return VideoFrame(t_ns, index, image)


def follow(places: Iterable[Sequence[float]], lost_after_s: float = 0.7) -> list[FaceBox]:
    """The smoothed boxes for detections (center x, center y, side), eight a second."""
    smoother = BoxSmoother(lost_after_s)
    boxes = [
        smoother.update(n * STEP_NS, Detection(x, y, size, 1.0))
        for n, (x, y, size) in enumerate(places)
    ]
    assert all(box is not None for box in boxes)
    return [box for box in boxes if box is not None]


# The smoothed box


def test_box_stands_still_while_the_face_does() -> None:
    """The detectors jitter by 2 % of the side; the box moves by at most a tenth of that."""
    rng = np.random.default_rng(4)
    jittering = [
        tuple(np.array([400.0, 300.0, 200.0]) + 200 * rng.uniform(-0.02, 0.02, 3))
        for _ in range(200)
    ]
    boxes = follow(jittering)
    centres = np.array([(b.x + b.size / 2, b.y + b.size / 2, b.size) for b in boxes[20:]])
    steps = np.abs(np.diff(centres, axis=0)).max()
    assert steps < 0.003 * 200
    assert np.abs(centres - [400, 300, 200]).max() < 0.015 * 200
    assert centres.std(axis=0).max() < np.std(np.array(jittering), axis=0).min() / 2


@pytest.mark.parametrize("step", [(30, 0, 0), (0, -30, 0), (0, 0, 40), (-200, 100, -50)])
def test_box_follows_a_step_at_once(step: tuple[float, float, float]) -> None:
    """A real move is not smoothed: the box is there with the first detection."""
    x, y, size = (a + b for a, b in zip((400, 300, 200), step, strict=True))
    box = follow([(400, 300, 200)] * 5 + [(x, y, size)])[-1]
    assert (box.x + box.size / 2, box.y + box.size / 2, box.size) == pytest.approx((x, y, size))


def test_box_follows_a_slow_drift() -> None:
    """A drift within the dead band at each step leaves the box behind by at most the dead band."""
    places = [(400 + n, 300 + 0.5 * n, 200 + 0.3 * n) for n in range(150)]
    for place, box in zip(places, follow(places), strict=True):
        lag = max(abs(box.x + box.size / 2 - place[0]), abs(box.size - place[2]))
        assert lag <= BoxSmoother.DEAD_BAND * place[2]


def test_lost_box() -> None:
    """The box stays while the face is away for a moment and is lost after `lost_after_s`."""
    smoother = BoxSmoother(0.7)
    first = smoother.update(0, Detection(100, 100, 50, 1.0))
    assert smoother.update(700_000_000, None) is first
    assert smoother.update(700_000_001, None) is None
    assert smoother.update(800_000_000, None) is None
    again = smoother.update(900_000_000, Detection(102, 101, 50, 1.0))
    assert again == FaceBox(77, 76, 50, 1.0, 900_000_000)


def test_box_has_the_time_of_its_frame() -> None:
    """A frame without a face does not renew the box's time."""
    smoother = BoxSmoother(1.0)
    smoother.update(5, Detection(100, 100, 50, 0.5))
    box = smoother.update(900, None)
    assert box is not None
    assert box.t_ns == 5


# Which face


def box_at(face: Detection) -> FaceBox:
    return FaceBox(face.x - face.size / 2, face.y - face.size / 2, face.size, 1.0, 0)


def test_largest_central_face_is_chosen() -> None:
    """Size and position count; the detector's score and order do not."""
    middle, corner = Detection(320, 180, 100, 0.1), Detection(60, 60, 110, 9.0)
    large = Detection(100, 100, 300, 0.1)
    assert choose_face([corner, middle], 640, 360, None) is middle
    assert choose_face([middle, corner], 640, 360, None) is middle
    assert choose_face([middle, corner, large], 640, 360, None) is large


def test_face_followed_is_not_left_for_a_little_better_one() -> None:
    """Between two faces of about one size the tracker does not alternate; a clearly better one
    wins."""
    left, right = Detection(220, 180, 100, 1.0), Detection(420, 180, 100, 1.0)
    slightly_better = Detection(420, 180, 115, 1.0)
    better = Detection(420, 180, 150, 1.0)
    for order in ([left, right], [right, left]):
        assert choose_face(order, 640, 360, box_at(left)) is left
        assert choose_face(order, 640, 360, box_at(right)) is right
    assert choose_face([left, slightly_better], 640, 360, None) is slightly_better
    assert choose_face([left, slightly_better], 640, 360, box_at(left)) is left
    assert choose_face([left, better], 640, 360, box_at(left)) is better


# Detectors


def yunet_file(shared_data: Path) -> Path:
    file = shared_data / "models" / "yunet" / "yunet_n_320_320.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}")
    return file


def centre_and_side(box: FaceBox) -> NDArray[np.float64]:
    return np.array([box.x + box.size / 2, box.y + box.size / 2, box.size])


def test_shipped_detector_detects_the_demo_face() -> None:
    """The drawn face, through all its expressions, at its place."""
    detector = open_detector("")
    found = 0
    for n in range(40):
        box = FaceTracker(detector, 0.7).track(make_frame(draw_face(n / 2)))
        if box is not None:
            found += 1
            x, y, size = centre_and_side(box)
            assert (x, y) == pytest.approx((320, 185), abs=40)
            assert 170 < size < 280
    assert found >= 36


@pytest.mark.parametrize("name", CLIPS)
def test_detectors_agree_on_a_real_face(shared_data: Path, name: str) -> None:
    """The face network's crop does not depend on the detector: within 12 % of the side."""
    clip = shared_data / "clips" / name
    if not clip.is_file():
        pytest.skip(f"no {clip}")
    trackers = [FaceTracker(open_detector(), 1.0)]
    trackers.append(FaceTracker(YuNetDetector(yunet_file(shared_data)), 1.0))
    distances = []
    for frame in MediaFile(clip).frames():
        if frame.index % 12:
            continue
        shipped, yunet = (face_tracker.track(frame) for face_tracker in trackers)
        assert yunet is not None
        if shipped is not None:
            off = centre_and_side(shipped) - centre_and_side(yunet)
            distances.append(np.abs(off).max() / yunet.size)
    assert len(distances) >= 7
    assert np.median(distances) < 0.12
    assert max(distances) < 0.2


@pytest.fixture(params=["shipped", "yunet"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "shipped":
        return open_detector("")
    return open_detector(str(yunet_file(request.getfixturevalue("shared_data"))))


@pytest.mark.parametrize(
    "size", [(40, 30), (1, 1), (2, 400), (400, 2), (400, 33), (321, 181), (1919, 1079)]
)
def test_frames_without_a_face(detector: Detector, size: tuple[int, int]) -> None:
    """Black, white and noisy images of any size: no detection, no failure."""
    width, height = size
    face_tracker = FaceTracker(detector, 0.7)
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    flat = [np.full((height, width, 3), level, np.uint8) for level in (0, 255)]
    for n, image in enumerate([*flat, noise]):
        assert face_tracker.track(make_frame(image, n)) is None


# The thread


class Script:
    """A detector with scripted detections."""

    def __init__(self, found: list[Detection]) -> None:
        self.found = found
        self.seen: list[int] = []
        """The first byte of each image."""
        self.formats: list[str] = []

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        self.seen.append(int(image[0, 0, 0]))
        self.formats.append(pixel_format)
        return self.found


def test_box_is_not_used_for_another_frame_size() -> None:
    """A camera that comes back at another size: the old box is not used for its frames, not even
    until the next search."""
    detector = Script([Detection(500, 300, 200, 1.0)])
    face_tracker = FaceTracker(detector, 0.7)
    large = make_frame(np.zeros((720, 1280, 3), np.uint8))
    small = make_frame(np.zeros((120, 160, 3), np.uint8), STEP_NS, 1)
    assert face_tracker.box_for(large) is None
    box = face_tracker.track(large)
    assert box is not None
    assert face_tracker.box_for(large) == box
    assert face_tracker.box_for(small) is None
    detector.found = []
    assert face_tracker.track(small) is None
    detector.found = [Detection(80, 60, 40, 1.0)]
    assert face_tracker.track(small) == FaceBox(60, 40, 40, 1.0, STEP_NS)


@pytest.mark.parametrize("lost_after_s", [0.7, 3.0])
@pytest.mark.parametrize("period_ns", [STEP_NS, 2 * 10**9])
def test_box_that_is_old_is_not_used(lost_after_s: float, period_ns: int) -> None:
    """The box of an hour ago is not used for a frame. One as new as a slow camera and the search
    period allow is."""
    face_tracker = FaceTracker(Script([Detection(500, 300, 200, 1.0)]), lost_after_s)
    face_tracker.period_ns = period_ns
    image = np.zeros((720, 1280, 3), np.uint8)
    box = face_tracker.track(make_frame(image))
    for age_ns in (-STEP_NS, 0, round(lost_after_s * 1e9), 10**9, period_ns):
        assert face_tracker.box_for(make_frame(image, age_ns)) == box
    life_ns = round(max(lost_after_s * 1e9, 1.5 * period_ns, 1e9)) + period_ns
    for age_ns in (life_ns + 1, 3600 * 10**9):
        assert face_tracker.box_for(make_frame(image, age_ns)) is None


@pytest.mark.parametrize(("search_s", "longest_s"), [(4, 8), (60, 10)])
def test_box_outlives_a_search_that_takes_seconds(search_s: int, longest_s: int) -> None:
    """On a slow machine a box is used until the next search ends, and not for ever."""
    face_tracker = FaceTracker(Script([Detection(500, 300, 200, 1.0)]), 0.7)
    image = np.zeros((720, 1280, 3), np.uint8)
    period_ns, search_ns = face_tracker.period_ns, search_s * 10**9
    face_tracker.track(make_frame(image))
    box = face_tracker.track(make_frame(image, search_ns))
    life_ns = longest_s * 10**9 + period_ns
    assert face_tracker.box_for(make_frame(image, search_ns + life_ns)) == box
    assert face_tracker.box_for(make_frame(image, search_ns + life_ns + 1)) is None


@pytest.mark.parametrize("found", [True, False])
def test_box_that_is_old_is_not_followed(found: bool) -> None:
    """An hour later a face is framed as detected, and one at the old place is not preferred."""
    smoother = BoxSmoother(0.7)
    smoother.update(0, Detection(100, 100, 50, 1.0))
    later = 3600 * 10**9
    if found:
        wanted = FaceBox(76, 75, 50, 1.0, later)
        assert smoother.update(later, Detection(101, 100, 50, 1.0)) == wanted
    else:
        assert smoother.update(later, None) is None
    left, slightly_better = Detection(220, 180, 100, 1.0), Detection(420, 180, 115, 1.0)
    detector = Script([left])
    face_tracker = FaceTracker(detector, 0.7)
    image = np.zeros((360, 640, 3), np.uint8)
    face_tracker.track(make_frame(image))
    detector.found = [left, slightly_better]
    new = face_tracker.track(make_frame(image, later))
    assert new is not None
    assert new.x + new.size / 2 == slightly_better.x


@pytest.mark.parametrize("format_name", ["bgr8", "rgb8"])
def test_detector_gets_the_pixel_format(format_name: str) -> None:
    """As the frame states it."""
    detector = Script([])
    FaceTracker(detector, 0.7).track(
        VideoFrame(0, 0, np.zeros((50, 50, 3), np.uint8), format=format_name)
    )
    assert detector.formats == [format_name]
