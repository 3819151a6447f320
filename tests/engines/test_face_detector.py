"""The detectors: the same face in either order of channels and at any scale; errors of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.face_detector import HaarDetector, YuNetDetector, open_detector
from emotion_edge.runtime.capture.demo import draw_face


def test_rgb_and_bgr_find_the_same() -> None:
    """The order of the channels is as told, and a wide picture is found at its scale."""
    image = draw_face(1.0)
    bgr = HaarDetector().detect(image, "bgr8")
    assert len(bgr) == 1
    assert HaarDetector().detect(np.ascontiguousarray(image[..., ::-1]), "rgb8") == bgr
    twice = np.ascontiguousarray(np.repeat(np.repeat(image, 2, axis=0), 2, axis=1))
    (large,) = HaarDetector().detect(twice, "bgr8")
    assert (large.x, large.y, large.size) == pytest.approx(
        (2 * bgr[0].x, 2 * bgr[0].y, 2 * bgr[0].size), rel=0.05
    )


def test_order_of_channels_matters() -> None:
    """Told wrongly, the luma is another: the flag is really used."""
    image = draw_face(1.0)
    image[..., 2] //= 4
    right = HaarDetector().detect(image, "bgr8")
    assert right != HaarDetector().detect(image, "rgb8")


def to_yuv(bgr: NDArray[np.uint8], pixel_format: str, more_row_bytes: int) -> NDArray[np.uint8]:
    """The picture as a camera would give it, its rows `more_row_bytes` longer than they need be."""
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
    memory = np.full((rows.shape[0], rows.shape[1] + more_row_bytes), 77, np.uint8)
    memory[:, : rows.shape[1]] = rows
    strides = (memory.strides[0], *packed.strides[1:])
    return np.ndarray(packed.shape, np.uint8, buffer=memory, strides=strides)


@pytest.mark.parametrize("more_row_bytes", [0, 6])
@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12"])
def test_camera_formats_find_the_same_face(pixel_format: str, more_row_bytes: int) -> None:
    """A raw picture of a camera, long rows and all, shows the face where the BGR one does."""
    image = draw_face(1.0)
    (wanted,) = HaarDetector().detect(image, "bgr8")
    raw = to_yuv(image, pixel_format, more_row_bytes)
    (found,) = HaarDetector().detect(raw, pixel_format)
    assert (found.x, found.y, found.size) == pytest.approx(
        (wanted.x, wanted.y, wanted.size), rel=0.1
    )
    with pytest.raises(ValueError, match=pixel_format):
        HaarDetector().detect(raw[:, :-1] if pixel_format == "nv12" else raw[..., 0], pixel_format)


@pytest.fixture
def watched_yunet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[YuNetDetector, list[NDArray[np.uint8]]]:
    """A detector that finds nothing, and the images that its network was shown."""
    seen: list[NDArray[np.uint8]] = []

    class Network:
        def setInputSize(self, size: tuple[int, int]) -> None: ...  # noqa: N802 - OpenCV's name

        def detect(self, image: NDArray[np.uint8]) -> tuple[int, None]:
            seen.append(image)
            return 0, None

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_: Network())
    (tmp_path / "yunet.onnx").touch()
    return YuNetDetector(tmp_path / "yunet.onnx"), seen


@pytest.mark.parametrize("more_row_bytes", [0, 6])
@pytest.mark.parametrize("pixel_format", ["yuyv", "nv12"])
def test_yunet_gets_the_same_image(
    watched_yunet: tuple[YuNetDetector, list[NDArray[np.uint8]]],
    pixel_format: str,
    more_row_bytes: int,
) -> None:
    """Whatever the camera's format, the network gets BGR that differs by rounding alone."""
    detector, seen = watched_yunet
    image = draw_face(1.0)
    assert detector.detect(image, "bgr8") == []
    assert detector.detect(to_yuv(image, pixel_format, more_row_bytes), pixel_format) == []
    bgr, raw = (picture.astype(int) for picture in seen)
    assert np.abs(bgr - raw).mean() < 2


@pytest.mark.parametrize(
    ("pixel_format", "grey"), [("yuyv", 255), ("yuyv-full", 235), ("nv12-709-full", 235)]
)
def test_yunet_is_shown_the_range_of_the_camera(
    watched_yunet: tuple[YuNetDetector, list[NDArray[np.uint8]]], pixel_format: str, grey: int
) -> None:
    """Luma of 235 is white in limited range and a light grey in full range."""
    detector, seen = watched_yunet
    image = np.full((96, 96, 2) if "yuyv" in pixel_format else (144, 96), 128, np.uint8)
    luma = image[..., 0] if image.ndim == 3 else image[:96]
    luma[:] = 235
    detector.detect(image, pixel_format)
    assert [np.unique(shown).tolist() for shown in seen] == [[grey]]


def test_no_file_means_haar(tmp_path: Path) -> None:
    """An empty name is no file; a file that is missing is not silently replaced."""
    assert isinstance(open_detector(), HaarDetector)
    assert isinstance(open_detector(""), HaarDetector)
    with pytest.raises(EngineError, match=r"yunet\.onnx': no such file"):
        open_detector(tmp_path / "yunet.onnx")


def test_yunet_from_a_path(shared_data: Path) -> None:
    """A file given as a path or as text."""
    file = shared_data / "models" / "yunet" / "yunet_n_320_320.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}")
    for name in (file, str(file)):
        assert isinstance(open_detector(name), YuNetDetector)


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07" * 500])
def test_file_that_is_no_yunet(tmp_path: Path, content: bytes) -> None:
    """One line that names the file."""
    file = tmp_path / "yunet.onnx"
    file.write_bytes(content)
    with pytest.raises(EngineError, match="not a YuNet") as error:
        open_detector(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_gray_image_is_refused() -> None:
    """What is no colour picture is named, with what is wanted."""
    with pytest.raises(ValueError, match=r"bgr8 .*uint8\[50, 50\]"):
        HaarDetector().detect(np.zeros((50, 50), np.uint8), "bgr8")


def test_engines_load_no_opencv() -> None:
    """Only who asks for a detector pays for OpenCV."""
    code = (
        "import sys, emotion_edge.engines, emotion_edge.engines.bundles.manifest,"
        " emotion_edge.engines.onnx_runtime; print('cv2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.stdout.strip() == "False", result.stderr
