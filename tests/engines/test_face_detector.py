"""The detectors: the same face in either order of channels and at any scale; errors of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.face_detector import HaarDetector, YuNetDetector, open_detector
from emotion_edge.runtime.sources.demo import draw_face


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


def test_grey_picture_is_refused() -> None:
    """What is no colour picture is named, with what is wanted."""
    with pytest.raises(ValueError, match=r"bgr8 picture uint8\[50, 50\]"):
        HaarDetector().detect(np.zeros((50, 50), np.uint8), "bgr8")


def test_engines_load_no_opencv() -> None:
    """Only who asks for a detector pays for OpenCV."""
    code = (
        "import sys, emotion_edge.engines, emotion_edge.engines.bundle,"
        " emotion_edge.engines.onnx_engine; print('cv2' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.stdout.strip() == "False", result.stderr
