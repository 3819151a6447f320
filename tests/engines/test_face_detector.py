"""YuNet as face detector: pixel formats, tilt, and errors of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.face_detector import YuNetDetector, open_detector
from emotion_edge.runtime.capture.demo import draw_face


def to_yuv(bgr: NDArray[np.uint8], pixel_format: str, padding: int) -> NDArray[np.uint8]:
    """Convert to a camera's format, with rows padded by `padding` bytes."""
    height, width = bgr.shape[:2]
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    luma = planes[:height]
    u, v = planes[height:].reshape(2, height // 2, width // 2)
    if pixel_format == "nv12":
        packed = np.concatenate((luma, np.stack((u, v), axis=-1).reshape(height // 2, width)))
    else:
        colors = np.stack((u, v), axis=-1).reshape(height // 2, width).repeat(2, axis=0)
        packed = np.stack((luma, colors), axis=-1)
    rows = packed.reshape(packed.shape[0], -1)
    memory = np.full((rows.shape[0], rows.shape[1] + padding), 77, np.uint8)
    memory[:, : rows.shape[1]] = rows
    strides = (memory.strides[0], *packed.strides[1:])
    return np.ndarray(packed.shape, np.uint8, buffer=memory, strides=strides)


@pytest.fixture
def recording_yunet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[YuNetDetector, list[NDArray[np.uint8]]]:
    """A detector without detections, and the images that its network gets."""
    images: list[NDArray[np.uint8]] = []

    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None: ...  # noqa: N802 - OpenCV's name

        def detect(self, image: NDArray[np.uint8]) -> tuple[int, None]:
            images.append(image)
            return 0, None

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Network())
    (tmp_path / "yunet.onnx").touch()
    return YuNetDetector(tmp_path / "yunet.onnx"), images


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12"])
def test_yunet_gets_the_same_image(
    recording_yunet: tuple[YuNetDetector, list[NDArray[np.uint8]]],
    pixel_format: str,
    padding: int,
) -> None:
    """The network gets BGR that differs by rounding only, whatever the camera's format."""
    detector, images = recording_yunet
    image = draw_face(1.0)
    assert detector.detect(image, "bgr8") == []
    assert detector.detect(to_yuv(image, pixel_format, padding), pixel_format) == []
    bgr, raw = (each.astype(int) for each in images)
    assert np.abs(bgr - raw).mean() < 2


@pytest.mark.parametrize(
    ("pixel_format", "gray"), [("yuyv", 255), ("yuyv-full", 235), ("nv12-709-full", 235)]
)
def test_yunet_gets_the_luma_range(
    recording_yunet: tuple[YuNetDetector, list[NDArray[np.uint8]]], pixel_format: str, gray: int
) -> None:
    """Luma of 235 is white in limited range and light gray in full range."""
    detector, images = recording_yunet
    image = np.full((96, 96, 2) if "yuyv" in pixel_format else (144, 96), 128, np.uint8)
    luma = image[..., 0] if image.ndim == 3 else image[:96]
    luma[:] = 235
    detector.detect(image, pixel_format)
    assert [np.unique(each).tolist() for each in images] == [[gray]]


def test_yunet_says_how_far_the_head_is_tilted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its landmarks: eyes, nose, mouth corners, the image's left one first."""
    box, eyes, nose_mouth = [40, 30, 76, 80], [60, 60, 90, 75], [70, 80, 55, 90, 80, 100]
    row = np.array([[*box, *eyes, *nose_mouth, 0.9]], np.float32)

    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None: ...  # noqa: N802 - OpenCV's name

        def detect(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.float32]]:
            return 1, row

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Network())
    (tmp_path / "yunet.onnx").touch()
    image = np.zeros((180, 320, 3), np.uint8)
    (face,) = YuNetDetector(tmp_path / "yunet.onnx").detect(image, "bgr8")
    assert (face.x, face.y, face.size) == pytest.approx((78, 70, 76))
    assert face.roll == pytest.approx(np.arctan2(15, 30))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The file of YuNet."""
    with pytest.raises(EngineError, match=r"yunet\.onnx"):
        open_detector(tmp_path / "yunet.onnx")


def test_yunet_from_a_path(shared_data: Path) -> None:
    """The file is a path or a string."""
    file = shared_data / "models" / "yunet" / "yunet_n_320_320.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}")
    for name in (file, str(file)):
        assert isinstance(open_detector(name), YuNetDetector)


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07" * 500])
def test_not_a_yunet(tmp_path: Path, content: bytes) -> None:
    """One line with the file."""
    file = tmp_path / "yunet.onnx"
    file.write_bytes(content)
    with pytest.raises(EngineError, match=str(file)) as error:
        open_detector(file)
    assert "\n" not in str(error.value).strip()


def test_gray_image_is_refused(
    recording_yunet: tuple[YuNetDetector, list[NDArray[np.uint8]]],
) -> None:
    """The error has the pixel format and the shape."""
    with pytest.raises(ValueError, match=r"bgr8 .*uint8\[50, 50\]"):
        recording_yunet[0].detect(np.zeros((50, 50), np.uint8), "bgr8")


def test_engines_load_no_opencv() -> None:
    """OpenCV is imported by the detectors only."""
    code = (
        "import sys, emotion_edge.engines, emotion_edge.engines.bundles.manifest,"
        " emotion_edge.engines.onnx_runtime; print('cv2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.stdout.strip() == "False", result.stderr
