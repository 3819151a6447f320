"""Faces followed: a box that stays still while the face does, and an id that stays its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.detection import TrackingScores
from emotion_edge.engines.face_detector import (
    Detection,
    Detector,
    YuNetDetector,
    open_detector,
)
from emotion_edge.engines.face_tracker import BoxSmoother, FaceBox, FaceTracker, sort_faces
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
    assert sort_faces([corner, middle], 640, 360, None)[0] is middle
    assert sort_faces([middle, corner], 640, 360, None)[0] is middle
    assert sort_faces([middle, corner, large], 640, 360, None)[0] is large


def test_face_followed_is_not_left_for_a_little_better_one() -> None:
    """Between two faces of about one size the tracker does not alternate; a clearly better one
    wins."""
    left, right = Detection(220, 180, 100, 1.0), Detection(420, 180, 100, 1.0)
    slightly_better = Detection(420, 180, 115, 1.0)
    better = Detection(420, 180, 150, 1.0)
    for order in ([left, right], [right, left]):
        assert sort_faces(order, 640, 360, box_at(left))[0] is left
        assert sort_faces(order, 640, 360, box_at(right))[0] is right
    assert sort_faces([left, slightly_better], 640, 360, None)[0] is slightly_better
    assert sort_faces([left, slightly_better], 640, 360, box_at(left))[0] is left
    assert sort_faces([left, better], 640, 360, box_at(left))[0] is better


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
        boxes = FaceTracker(detector, 0.7).track(make_frame(draw_face(n / 2)))
        for box in boxes:
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
        shipped, (yunet,) = (face_tracker.track(frame) for face_tracker in trackers)
        if shipped:
            off = centre_and_side(shipped[0]) - centre_and_side(yunet)
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
        assert face_tracker.track(make_frame(image, n)) == ()


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
    assert face_tracker.faces_for(large) == ()
    boxes = face_tracker.track(large)
    assert len(boxes) == 1
    assert face_tracker.faces_for(large) == boxes
    assert face_tracker.faces_for(small) == ()
    detector.found = []
    assert face_tracker.track(small) == ()
    detector.found = [Detection(80, 60, 40, 1.0)]
    (box,) = face_tracker.track(small)
    assert box == FaceBox(60, 40, 40, 1.0, STEP_NS, 0.0, box.id)


@pytest.mark.parametrize("lost_after_s", [0.7, 3.0])
@pytest.mark.parametrize("period_ns", [STEP_NS, 2 * 10**9])
def test_box_that_is_old_is_not_used(lost_after_s: float, period_ns: int) -> None:
    """The box of an hour ago is not used for a frame. One as new as a slow camera and the search
    period allow is."""
    face_tracker = FaceTracker(Script([Detection(500, 300, 200, 1.0)]), lost_after_s)
    face_tracker.period_ns = period_ns
    image = np.zeros((720, 1280, 3), np.uint8)
    boxes = face_tracker.track(make_frame(image))
    assert boxes
    for age_ns in (-STEP_NS, 0, round(lost_after_s * 1e9), 10**9, period_ns):
        assert face_tracker.faces_for(make_frame(image, age_ns)) == boxes
    life_ns = round(max(lost_after_s * 1e9, 1.5 * period_ns, 1e9)) + period_ns
    for age_ns in (life_ns + 1, 3600 * 10**9):
        assert face_tracker.faces_for(make_frame(image, age_ns)) == ()


@pytest.mark.parametrize(("search_s", "longest_s"), [(4, 8), (60, 10)])
def test_box_outlives_a_search_that_takes_seconds(search_s: int, longest_s: int) -> None:
    """On a slow machine a box is used until the next search ends, and not for ever."""
    face_tracker = FaceTracker(Script([Detection(500, 300, 200, 1.0)]), 0.7)
    image = np.zeros((720, 1280, 3), np.uint8)
    period_ns, search_ns = face_tracker.period_ns, search_s * 10**9
    face_tracker.track(make_frame(image))
    boxes = face_tracker.track(make_frame(image, search_ns))
    assert boxes
    life_ns = longest_s * 10**9 + period_ns
    assert face_tracker.faces_for(make_frame(image, search_ns + life_ns)) == boxes
    assert face_tracker.faces_for(make_frame(image, search_ns + life_ns + 1)) == ()


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
    new = face_tracker.track(make_frame(image, later))[0]
    assert new.x + new.size / 2 == slightly_better.x


@pytest.mark.parametrize("format_name", ["bgr8", "rgb8"])
def test_detector_gets_the_pixel_format(format_name: str) -> None:
    """As the frame states it."""
    detector = Script([])
    FaceTracker(detector, 0.7).track(
        VideoFrame(0, 0, np.zeros((50, 50, 3), np.uint8), format=format_name)
    )
    assert detector.formats == [format_name]


# Several faces

PEOPLE_SIZE_PX = 100.0
PATHS_S = 6
"""Length of each path."""


def walk_past(t_s: float) -> list[Detection]:
    """Two people who cross in front of each other, one hidden while they overlap; one who stands;
    all with the detectors' jitter."""
    rng = np.random.default_rng(round(1000 * t_s))
    right, left, stands = 100 + 150 * t_s, 1000 - 150 * t_s, 640.0
    places = [(stands, 120.0, 90.0), (right, 450.0, PEOPLE_SIZE_PX)]
    if abs(right - left) > 0.8 * PEOPLE_SIZE_PX:
        places.append((left, 440.0, 95.0))
    return [
        Detection(*(np.array(place) + place[2] * rng.uniform(-0.02, 0.02, 3)), 1.0)
        for place in places
    ]


def test_people_who_cross_keep_their_ids() -> None:
    """Three identities in all, each on its own path to the end."""
    detector = Script([])
    face_tracker = FaceTracker(detector)
    image = np.zeros((720, 1280, 3), np.uint8)
    names: dict[str, set[str]] = {}
    for n in range(8 * PATHS_S):
        t_s = n / 8
        detector.found = walk_past(t_s)
        for box in face_tracker.track(make_frame(image, n * STEP_NS)):
            if box.t_ns != n * STEP_NS:  # hidden at present
                continue
            x, y, _ = centre_and_side(box)
            paths = {"stands": (640, 120), "right": (100 + 150 * t_s, 450)}
            paths["left"] = (1000 - 150 * t_s, 440)
            path = min(paths, key=lambda name: np.hypot(paths[name][0] - x, paths[name][1] - y))
            if not 2.5 < t_s < 3.5:  # at one place, so the path is not known
                names.setdefault(path, set()).add(box.id)
    assert {path: len(ids) for path, ids in names.items()} == {"stands": 1, "right": 1, "left": 1}
    assert len(set.union(*names.values())) == 3


def test_ids_are_random_and_not_used_again() -> None:
    """A face that was away for long is a new one; one that was missed for a moment is not."""
    detector = Script([Detection(500, 300, 200, 1.0)])
    image = np.zeros((720, 1280, 3), np.uint8)
    ids = []
    face_tracker = FaceTracker(detector)
    for t_s in (0, 0.5, 2.4, 4.5, 6, 3600):
        (box,) = face_tracker.track(make_frame(image, round(t_s * 1e9)))
        ids.append(box.id)
        detector.found = []
        face_tracker.track(make_frame(image, round(t_s * 1e9) + 1))
        detector.found = [Detection(500, 300, 200, 1.0)]
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 3
    others = FaceTracker(detector).track(make_frame(image))
    assert others[0].id not in ids
    assert all(len(name) == 6 and name.isalpha() for name in (*ids, others[0].id))


@pytest.mark.parametrize("max_faces", [1, 2, 4])
def test_most_faces_followed(max_faces: int) -> None:
    """The largest and most central ones, the main one first; a face followed is not given up for
    one that is a little better."""
    places = [(640, 360, 100), (300, 360, 90), (900, 360, 85), (200, 150, 60), (1100, 600, 50)]
    detector = Script([Detection(x, y, size, 1.0) for x, y, size in reversed(places)])
    face_tracker = FaceTracker(detector, max_faces=max_faces)
    image = np.zeros((720, 1280, 3), np.uint8)
    boxes = face_tracker.track(make_frame(image))
    assert [box.size for box in boxes] == [100, 90, 85, 60][:max_faces]
    last = places[max_faces - 1]
    detector.found += [Detection(last[0], last[1] + 130, 1.1 * last[2], 1.0)]
    again = face_tracker.track(make_frame(image, STEP_NS))
    assert {box.id for box in again} == {box.id for box in boxes}


def test_main_face_stays_while_it_is_missed() -> None:
    """For a moment it is held and stays the main one; then another face is."""
    anna, ben = Detection(640, 360, 200, 1.0), Detection(200, 360, 100, 1.0)
    detector = Script([ben, anna])
    face_tracker = FaceTracker(detector, 0.7)
    image = np.zeros((720, 1280, 3), np.uint8)
    first, second = face_tracker.track(make_frame(image))
    detector.found = [ben]
    held = face_tracker.track(make_frame(image, 5 * STEP_NS))
    assert [box.id for box in held] == [first.id, second.id]
    later = face_tracker.track(make_frame(image, 6 * STEP_NS))
    assert [box.id for box in later] == [second.id]


def test_face_that_jumps_leaves_nothing_behind() -> None:
    """The only face moves too far for the tracker: it is followed, as another one."""
    detector = Script([Detection(200, 360, 100, 1.0)])
    face_tracker = FaceTracker(detector, 0.7)
    image = np.zeros((720, 1280, 3), np.uint8)
    (before,) = face_tracker.track(make_frame(image))
    detector.found = [Detection(900, 360, 100, 1.0)]
    (after,) = face_tracker.track(make_frame(image, STEP_NS))
    assert (after.x, after.t_ns) == (850, STEP_NS)
    assert after.id != before.id


@pytest.mark.parametrize(
    "other", [(330, 190, 100), (320, 180, 70), (345, 205, 60), (320, 180, 160)]
)
def test_face_framed_twice_is_one(other: tuple[float, float, float]) -> None:
    """A detector may give two squares for one face; neighbours are two faces."""
    face = Detection(320, 180, 100, 1.0)
    image = np.zeros((360, 640, 3), np.uint8)
    twice = Script([face, Detection(*other, 1.0)])
    assert len(FaceTracker(twice).track(make_frame(image))) == 1
    neighbours = Script([face, Detection(415, 180, 100, 1.0)])
    assert len(FaceTracker(neighbours).track(make_frame(image))) == 2


def test_timestamps_that_go_back_begin_anew() -> None:
    """They come from another camera: neither boxes nor ids go on."""
    detector = Script([Detection(500, 300, 200, 1.0)])
    face_tracker = FaceTracker(detector)
    image = np.zeros((720, 1280, 3), np.uint8)
    (before,) = face_tracker.track(make_frame(image, 10**9))
    (after,) = face_tracker.track(make_frame(image, 10**8))
    assert after.id != before.id
    assert after.t_ns == 10**8


def test_roll_is_smoothed_on_the_circle() -> None:
    """A steady head's roll stands still, at half a turn too; a head that turns is followed."""
    rng = np.random.default_rng(2)
    smoother = BoxSmoother(0.7)
    rolls = []
    for n in range(100):
        roll = float(np.pi + rng.uniform(-0.05, 0.05))
        face = Detection(100, 100, 50, 1.0, roll if roll < np.pi else roll - 2 * np.pi)
        box = smoother.update(n * STEP_NS, face)
        assert box is not None
        rolls.append(box.roll % (2 * np.pi))
    assert np.abs(np.diff(rolls[20:])).max() < 0.02
    assert rolls[-1] == pytest.approx(np.pi, abs=0.03)
    box = smoother.update(100 * STEP_NS, Detection(100, 100, 50, 1.0, -3.0))
    turned = smoother.update(101 * STEP_NS, Detection(100, 100, 50, 1.0, -2.5))
    assert turned is not None
    assert turned.roll == pytest.approx(-2.5)
    assert turned.x == 75


def test_face_with_a_low_score_is_not_trusted() -> None:
    """A face that never scored well comes after all others, however large; one that did stays
    trusted."""
    sure, unsure = Detection(200, 360, 80, 0.9), Detection(640, 360, 300, 0.55)
    detector = Script([unsure, sure])
    face_tracker = FaceTracker(detector, scores=TrackingScores(label=0.6))
    image = np.zeros((720, 1280, 3), np.uint8)
    for n, score in enumerate((0.9, 0.5, 0.9)):
        detector.found = [unsure, sure._replace(score=score)]
        boxes = face_tracker.track(make_frame(image, n * STEP_NS))
        assert [(box.size, box.trusted) for box in boxes] == [(80, True), (300, False)]
    for n in range(3, 12):
        detector.found = [unsure._replace(score=0.8), sure]
        boxes = face_tracker.track(make_frame(image, n * STEP_NS))
    assert [(box.size, box.trusted) for box in boxes] == [(300, True), (80, True)]


def test_doubtful_detection_continues_a_face_and_begins_none() -> None:
    """A head that turns away scores less; what never scored well is no face. A face that was lost
    is not found again by a doubtful detection."""
    sure, doubtful = Detection(300, 200, 90, 0.8), Detection(304, 201, 90, 0.4)
    elsewhere = Detection(600, 400, 120, 0.4)
    detector = Script([doubtful, elsewhere])
    face_tracker = FaceTracker(detector, 0.7, scores=TrackingScores(begin=0.5))
    image = np.zeros((720, 1280, 3), np.uint8)
    assert face_tracker.track(make_frame(image)) == ()
    detector.found = [sure, elsewhere]
    (first,) = face_tracker.track(make_frame(image, STEP_NS))
    detector.found = [doubtful, elsewhere]
    for step in range(2, 20):
        (box,) = face_tracker.track(make_frame(image, step * STEP_NS))
        assert (box.id, box.t_ns) == (first.id, step * STEP_NS)
    detector.found = []
    face_tracker.track(make_frame(image, 28 * STEP_NS))
    detector.found = [doubtful]
    assert face_tracker.track(make_frame(image, 29 * STEP_NS)) == ()


def test_doubtful_square_hides_no_face() -> None:
    """Even if it is larger."""
    detector = Script([Detection(300, 200, 200, 0.4), Detection(300, 200, 90, 0.8)])
    face_tracker = FaceTracker(detector, 0.7, scores=TrackingScores(begin=0.5))
    (box,) = face_tracker.track(make_frame(np.zeros((720, 1280, 3), np.uint8)))
    assert box.size == 90
