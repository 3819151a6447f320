"""`emotion-train face-detector`: options in, an ONNX file out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import FaceDetectorEntry
from emotion_edge.engines.detection_network import open_detection_network
from emotion_edge.training import data, recipes
from emotion_edge.training.__main__ import main
from emotion_edge.training.commands.face_detector import people_folder


@pytest.fixture
def options(tmp_path: Path, write_ferplus: Callable[..., Path]) -> list[str]:
    root = write_ferplus({f"{i}.png": {"anger": 10} for i in range(4)})
    for name in ("people", "pictures"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((128, 128, 3), 90, np.uint8))
    folders = {"ferplus": root, "people": f"{tmp_path / 'people'}=2"}
    folders |= {"pictures": tmp_path / "pictures", "choose": tmp_path / "pictures"}
    folders |= {"work": tmp_path / "work"}
    folders |= {"teacher": tmp_path / "yunet.onnx", "out": tmp_path / "out.onnx"}
    return [text for name, value in folders.items() for text in (f"--{name}", str(value))]


def test_a_missing_teacher_is_named(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["face-detector", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "yunet.onnx" in lines[0]


def test_a_run_writes_the_file(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two rounds of one step, a teacher that labels every picture. The printed entry opens it."""

    class Everywhere(data.Teacher):
        def __init__(self, file: Path) -> None:
            file.write_bytes(b"x")
            self.file = file

        def label(self, bgr: np.ndarray, min_score: float) -> np.ndarray:
            x, y = bgr.shape[1] / 2, bgr.shape[0] / 2
            return np.array([x, y, y, x - 5, y, x + 5, y, x, y, x, y + 5, x, y + 5], np.float32)

    def shorten(seed: int) -> recipes.DetectorRecipe:
        small = replace(recipe(seed=seed), batch_size=2, scenes_per_epoch=2, num_workers=0)
        return replace(small, sizes_px=(96,))

    recipe = recipes.DetectorRecipe
    monkeypatch.setattr(data, "Teacher", Everywhere)
    monkeypatch.setattr(recipes, "DetectorRecipe", shorten)
    assert main(["face-detector", *options, "--epochs", "1,1"]) == 0
    assert 0 < (tmp_path / "out.onnx").stat().st_size <= 300_000
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])["face_detector"]
    open_detection_network(tmp_path, FaceDetectorEntry(**printed))


def test_folders_of_people_can_count_several_times() -> None:
    assert people_folder("a/b") == (Path("a/b"), 1)
    assert people_folder("a=b=3") == (Path("a=b"), 3)
    for wrong in ("a=0", "a=x", "a="):
        with pytest.raises(argparse.ArgumentTypeError, match="a="):
            people_folder(wrong)
