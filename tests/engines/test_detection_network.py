"""The bundle's face detector: formats, sizes, tilt, overlaps, and files that are none."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import Bundle, BundleError, extend_bundle, load_bundle
from emotion_edge.engines.detection import Detection
from emotion_edge.engines.detection_network import (
    MAX_HEIGHT_PX,
    MAX_WIDTH_PX,
    DetectionNetwork,
    describe_detection_network,
    find_faces,
    measure_roll,
    prepare_luma,
)
from emotion_edge.engines.face_detector import open_detector
from emotion_edge.kernels.pixels import PIXEL_FORMATS

from .detecting import SIDE_PX, write_spot_detector

onnx = pytest.importorskip("onnx", reason="onnx is in the test extra")

Bytes = NDArray[np.uint8]
FRONTAL = np.array([-0.2, -0.1, 0.2, -0.1, 0.0, 0.05, -0.15, 0.25, 0.15, 0.25]).reshape(5, 2)
"""Landmarks of an upright face of side 1 around 0."""


@pytest.fixture
def detector(tmp_path: Path) -> DetectionNetwork:
    return DetectionNetwork(write_spot_detector(tmp_path / "faces.onnx"), 0.5)


def make_spot(width: int, height: int, pixel_format: str, x: int, y: int, px: int) -> Bytes:
    """Return a dark image with a white square of side `px` around x, y."""
    left, top = max(0, x - px // 2), max(0, y - px // 2)
    spot = slice(top, top + px), slice(left, left + px)
    if pixel_format in ("bgr8", "rgb8"):
        image = np.full((height, width, 3), 20, np.uint8)
        image[spot] = 255
        return image
    image = np.full((height, width, 2), 128, np.uint8)
    if pixel_format.startswith("nv12"):
        image = np.full((height * 3 // 2, width), 128, np.uint8)
    luma = image[..., 0] if image.ndim == 3 else image[:height]
    luma[:] = 30
    luma[spot] = 235
    return image


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_every_format(detector: DetectionNetwork, pixel_format: str) -> None:
    """The face lies where the spot is, in pixels of the image. White is 1 in every format but those
    of full range, where 235 is not white."""
    image = make_spot(4 * MAX_WIDTH_PX, 720, pixel_format, 900, 500, 24)
    (face,) = detector.detect(image, pixel_format)
    assert (face.x, face.y) == pytest.approx((900, 500), abs=16)
    assert face.size == pytest.approx(4 * SIDE_PX)
    assert face.score == pytest.approx(235 / 255 if "full" in pixel_format else 1.0, abs=0.01)
    with pytest.raises(ValueError, match=pixel_format):
        detector.detect(image.astype(np.float32), pixel_format)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (31, 33), (320, 180), (321, 181), (640, 360), (90, 4000), (4000, 90), (1080, 1920)],
)
def test_every_size(detector: DetectionNetwork, width: int, height: int) -> None:
    """Tiny, tall, wide, odd: the input is a multiple of 32 and bounded, the place is right."""
    image = make_spot(width, height, "bgr8", width // 2, height // 3, max(1, width // 20))
    luma, scale = prepare_luma(image, "bgr8")
    assert luma.shape[2] % 32 == luma.shape[3] % 32 == 0
    assert luma.shape[2] <= MAX_HEIGHT_PX
    assert luma.shape[3] <= MAX_WIDTH_PX
    assert scale >= 1
    near = 2 * scale + width / 20
    faces = DetectionNetwork(detector._path, 0.2).detect(image, "bgr8")
    assert [(face.x, face.y) for face in faces] == [
        (pytest.approx(width // 2, abs=near), pytest.approx(height // 3, abs=near))
    ]


def test_tracker_gets_doubtful_faces_too(tmp_path: Path) -> None:
    """From 0.6 of the least score on, which the tracker knows. The detector itself does not."""
    image = make_spot(320, 192, "bgr8", 160, 96, 40) // 2
    path = write_spot_detector(tmp_path / "faces.onnx")
    (face,) = DetectionNetwork(path, 0.01).detect(image, "bgr8")
    score = face.score
    assert 0.2 < score < 0.8
    detector = DetectionNetwork(path, score * 1.2, 0.9)
    assert detector.detect(image, "bgr8") == []
    assert detector.for_tracking().detect(image, "bgr8") == [face]
    assert detector.tracking_scores == (score * 1.2, 0.9)
    assert DetectionNetwork(path, score * 1.25 / 0.6).for_tracking().detect(image, "bgr8") == []


def test_unusual_memory_layouts(detector: DetectionNetwork) -> None:
    """Read-only, mirrored, padded rows."""
    image = make_spot(400, 300, "bgr8", 250, 100, 20)
    image.flags.writeable = False
    (face,) = detector.detect(image, "bgr8")
    (mirrored,) = detector.detect(image[:, ::-1], "bgr8")
    assert (face.x, mirrored.x) == pytest.approx((250, 150), abs=12)
    (cut,) = detector.detect(image[50:, 100:], "bgr8")
    assert (cut.x, cut.y) == pytest.approx((150, 50), abs=12)


def test_padding_repeats_the_border() -> None:
    """No dark bar that the network would see, and nothing moves."""
    width = MAX_WIDTH_PX + 1
    luma, scale = prepare_luma(np.full((181, width, 3), 90, np.uint8), "bgr8")
    assert luma.min() == luma.max() == 90
    assert scale == pytest.approx(width / MAX_WIDTH_PX)


@pytest.mark.parametrize("scale", [2, 2.9, 4.3, 9])
def test_shrinking_averages(scale: float) -> None:
    """The noise of a dark image shrinks as with a mean: fine patterns are no signal."""
    rng = np.random.default_rng(0)
    side = round(MAX_WIDTH_PX * scale)
    noise = rng.integers(0, 256, (side // 2, side, 3), np.uint8)
    before = float((noise @ np.array([0.114, 0.587, 0.299])).std())
    luma, _ = prepare_luma(noise, "bgr8")
    assert luma.std() < 1.8 * before / scale
    assert luma.mean() == pytest.approx(127.5, abs=1)


def find(scores: list[float], boxes: list[tuple[float, float, float]]) -> list[Detection]:
    landmarks = np.tile(FRONTAL.ravel(), (len(scores), 1)).astype(np.float32)
    return find_faces(np.array(scores, np.float32), np.array(boxes, np.float32), landmarks, 0.5, 2)


def test_one_face_is_found_once() -> None:
    """Of overlapping squares the most probable counts; faces beside each other are two; what is
    improbable, or no square, is none."""
    faces = find(
        [0.6, 0.9, 0.8, 0.49, 0.95, 0.95],
        [(52, 50, 40), (50, 50, 40), (95, 50, 42), (200, 50, 40), (300, 50, 0), (310, 50, -5)],
    )
    assert [(face.x, face.y, face.size) for face in faces] == [(100, 100, 80), (190, 100, 84)]
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8])


def test_everything_a_face_is_bounded() -> None:
    """A network that answers "face" everywhere neither hangs nor gives thousands."""
    count = 20_000
    rng = np.random.default_rng(0)
    boxes = [(float(x), float(y), 9.0) for x, y in rng.uniform(0, 600, (count, 2))]
    assert 0 < len(find([0.9] * count, boxes)) <= 300


@pytest.mark.parametrize("degrees", [0, 10, -10, 45, -60, 89])
@pytest.mark.parametrize("squeeze", [1.0, 0.3, 0.02])
def test_roll(degrees: float, squeeze: float) -> None:
    """The angle of the eyes, clockwise positive; also of a head in profile, whose eyes are one
    place and whose measured eyes may be swapped."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    face = FRONTAL * (squeeze, 1.0)
    assert measure_roll(100 * face @ turn + 300, 100.0) == pytest.approx(angle, abs=0.01)
    if squeeze < 0.1:
        face[:2] = face[1::-1]
        assert measure_roll(100 * face @ turn + 300, 100.0) == pytest.approx(angle, abs=0.15)


class HalfRolls(DetectionNetwork):
    """Finds one face wherever a bright line is, and only half of the line's tilt."""

    def run(self, luma: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:  # type: ignore[override]
        y, x = np.nonzero(luma[0, 0] > 120)
        centre = np.array([x.mean(), y.mean()])
        (_, axis) = np.linalg.eigh(np.cov(np.stack([x, y])))[1].T
        angle = 0.5 * math.atan2(*(axis[::-1] * np.sign(axis[0])))
        side = 1.3 * np.ptp(x - centre[0]) / abs(axis[0])
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        landmarks = side * FRONTAL @ turn + centre
        box = np.array([[*centre, side]], np.float32)
        return np.array([0.9], np.float32), box, landmarks.reshape(1, 10).astype(np.float32)


@pytest.mark.parametrize("degrees", [-50, -20, 0, 20, 50])
def test_a_tilt_that_is_underestimated_is_measured_again(tmp_path: Path, degrees: float) -> None:
    """On the face turned upright by the first estimate: half an angle becomes seven eighths."""
    image = np.zeros((360, 640, 3), np.uint8)
    line = np.arange(-50, 51, 0.25)
    angle = math.radians(degrees)
    for across in np.arange(-4, 4, 0.5):
        x = 300 + line * math.cos(angle) - across * math.sin(angle)
        y = 180 + line * math.sin(angle) + across * math.cos(angle)
        image[y.round().astype(int), x.round().astype(int)] = 255
    network = HalfRolls(write_spot_detector(tmp_path / "faces.onnx"), 0.5)
    (face,) = network.detect(image, "bgr8")
    assert face.roll == pytest.approx(angle, abs=0.14 + 0.01)
    assert abs(face.roll) >= 0.7 * abs(angle)


def test_landmarks_at_one_place_are_upright() -> None:
    """No angle can be told; none is made up."""
    assert measure_roll(np.zeros((5, 2), np.float32), 50.0) == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output": "logits"}, "scores"),
        ({"landmarks": 8}, "landmarks"),
        ({"gain": float("nan")}, "scores"),
        ({"gain": float("inf")}, "scores"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, change: dict[str, float | str], words: str
) -> None:
    """One line with the file and the output."""
    path = write_spot_detector(tmp_path / "faces.onnx", **change)  # type: ignore[arg-type]
    with pytest.raises(EngineError) as error:
        DetectionNetwork(path, 0.5).detect(np.full((64, 64, 3), 9, np.uint8), "bgr8")
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_face_network_is_no_detector(bundle: Bundle) -> None:
    """The bundle's other networks, and what is no network."""
    for file in ("face.onnx", "voice.onnx", "bundle.json"):
        with pytest.raises(EngineError, match=file):
            DetectionNetwork(bundle.path / file, 0.5)


# In a bundle


def add_detector(bundle: Bundle, name: str = "face_detector.onnx") -> Bundle:
    path = write_spot_detector(bundle.path / name)
    return extend_bundle(bundle.path, face_detector=describe_detection_network(path, 0.5))


def test_detector_of_a_bundle(bundle: Bundle) -> None:
    """Added to a bundle that exists, whose other fields stay; then it is the one that is opened."""
    extended = add_detector(bundle)
    assert load_bundle(bundle.path).manifest == extended.manifest
    before, after = (msgspec.to_builtins(each.manifest) for each in (bundle, extended))
    assert {name for name in after if after[name] != before.get(name)} == {"face_detector", "files"}
    opened = open_detector(bundle=extended)
    assert isinstance(opened, DetectionNetwork)
    assert len(opened.detect(make_spot(64, 64, "rgb8", 30, 30, 4), "rgb8")) == 1


def test_bundle_without_one_takes_the_shipped_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no bundle is named."""
    other = tmp_path / "shipped"
    bundle.path.rename(other)
    shipped = add_detector(load_bundle(other))
    monkeypatch.setattr("emotion_edge.engines.face_detector.DEFAULT_BUNDLE", shipped.path)
    for without in (None, bundle):
        opened = open_detector(bundle=without)
        assert isinstance(opened, DetectionNetwork)
        assert opened._path == shipped.path / "face_detector.onnx"


def test_shipped_bundle_without_one_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the folder and the setting that helps."""
    monkeypatch.setattr("emotion_edge.engines.face_detector.DEFAULT_BUNDLE", bundle.path)
    with pytest.raises(EngineError, match=r"face\.yunet_file") as error:
        open_detector()
    assert str(bundle.path) in str(error.value)


def test_a_changed_detector_is_refused(bundle: Bundle) -> None:
    """Whose file is the listed one, but whose scores are not: the golden check names the field."""
    entry = add_detector(bundle).manifest.face_detector
    assert entry is not None
    write_spot_detector(bundle.path / entry.file, gain=0.5 / 255)
    changed = extend_bundle_unchecked(bundle.path, entry)
    with pytest.raises(EngineError, match=r"face_detector\.golden_scores"):
        open_detector(bundle=changed)


def extend_bundle_unchecked(folder: Path, entry: object) -> Bundle:
    """Write the hash of the file as it is now."""
    manifest = msgspec.json.decode((folder / "bundle.json").read_bytes())
    del manifest["files"]["face_detector.onnx"], manifest["face_detector"]
    (folder / "bundle.json").write_bytes(msgspec.json.encode(manifest))
    return extend_bundle(folder, face_detector=entry)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "other.onnx"),
        ("min_score", -0.1),
        ("min_score", 1.5),
        ("min_label_score", 1.1),
        ("golden_scores", [0.5]),
        ("golden_scores", []),
        ("golden_scores", [0.5] * 7 + [1.5]),
    ],
)
def test_wrong_entry_is_named(bundle: Bundle, field: str, value: object) -> None:
    """Field and file."""
    manifest = msgspec.to_builtins(add_detector(bundle).manifest)
    manifest["face_detector"][field] = value
    (bundle.path / "bundle.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(BundleError, match=rf"face_detector\.{field}"):
        load_bundle(bundle.path)
