"""The exported face detector: its contract with the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from emotion_edge.training.export import export_detector
from emotion_edge.training.export import face_detector as exporter
from emotion_edge.training.export.onnx import ExportError
from emotion_edge.training.models import FaceDetectorNet


def test_the_file_takes_pictures_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "face_detector.onnx"
    export_detector(FaceDetectorNet(), path)
    assert path.stat().st_size <= 300_000
    session = onnxruntime.InferenceSession(str(path))
    assert [value.name for value in session.get_inputs()] == ["image"]
    for height, width in ((192, 320), (96, 64)):
        scores, boxes, landmarks = session.run(
            ["scores", "boxes", "landmarks"], {"image": np.zeros((1, 1, height, width), np.float32)}
        )
        count = height * width * (1 / 64 + 1 / 256 + 1 / 1024)
        assert scores.shape == (count,)
        assert boxes.shape == (count, 3)
        assert landmarks.shape == (count, 10)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="1000"):
        export_detector(FaceDetectorNet(), tmp_path / "face_detector.onnx")
