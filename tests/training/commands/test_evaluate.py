"""`emotion-train evaluate`: options in, JSON and a report out, errors in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.base import Engine
from emotion_edge.training.__main__ import main
from emotion_edge.training.data.ferplus import load_ferplus

Run = Callable[..., int]


@pytest.fixture
def run(
    tmp_path: Path,
    null_bundle: Path,
    write_ferplus: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """A function (options) -> exit code: the null engine on eight faces, output in tmp_path."""
    from emotion_edge.engines import open_engine
    from emotion_edge.training.evaluation import networks

    def open_null(_: str, *given: object, **named: object) -> Engine:
        return open_engine("null", *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "open_engine", open_null)
    root = write_ferplus({f"{i}.png": {("anger", "fear")[i % 2]: 10} for i in range(8)})
    assert len(load_ferplus(root, "train").labels) == 8

    def run_with(*options: str) -> int:
        given = ["--bundle", str(null_bundle), "--json", str(tmp_path / "metrics.json")]
        return main(["evaluate", *given, *options])

    return run_with


@pytest.fixture
def faces(tmp_path: Path) -> list[str]:
    return ["--dataset", "ferplus", "--root", str(tmp_path), "--split", "train"]


def test_json_and_report(
    run: Run, faces: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has the documented keys, and the report is in its folder."""
    report = tmp_path / "a" / "report"
    assert run(*faces, "--report", str(report), "--robustness") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    names = {"accuracy", "uar", "macro_f1", "weighted_f1", "ece", "n", "confusion", "labels"}
    assert names <= set(metrics)
    assert len(metrics["robustness"]) == 13
    assert (report / "report.html").is_file()
    assert (report / "confusion.png").is_file()
    out = capsys.readouterr().out
    assert f"accuracy {metrics['accuracy']:.3f}" in out
    assert str(report / "report.html") in out


def test_without_report_there_is_none(run: Run, faces: list[str], tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    assert run(*faces) == 0
    assert {path.name for path in tmp_path.iterdir()} - before == {"metrics.json"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--noise", "sounds"], "--noise: "),
        (["--impulse-responses", "rooms"], "--impulse-responses: "),
        (["--robustness", "--seed", "-1"], "--seed -1"),
        (["--modality", "fusion"], "--modality fusion"),
        (["--actors", "4"], "--actors"),
        (["--level", "huge"], "huge"),
    ],
)
def test_options_that_exclude_each_other(
    run: Run,
    faces: list[str],
    options: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one line that names the option."""
    assert run(*faces, *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["folder"], "manifest.csv"),
        (["ravdess"], "RAVDESS"),
        (["ravdess", "--actors", "22"], "[22]"),
        (["ravdess", "--split", "valid"], "--split"),
        (["ferplus", "--split", "test"], "test.csv"),
    ],
)
def test_wrong_data_sets(
    run: Run, tmp_path: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that names the missing files or the option."""
    assert run("--root", str(tmp_path), "--dataset", *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--clips"),
        (["--clips", "c", "--pictures", "p"], "--teacher"),
        (["--clips", "c", "--pictures", "p", "--teacher", "t", "--robustness"], "--robustness"),
        (["--clips", "c", "--pictures", "p", "--teacher", "t", "--min-score", "2"], "--min-score"),
        (["--clips", "c", "--pictures", "p", "--teacher", "t", "--faces", "0"], "--faces"),
        (["--clips", "c", "--pictures", "p", "--teacher", "none.onnx"], "none.onnx"),
    ],
)
def test_options_of_detection(
    run: Run, tmp_path: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that names the option or the file."""
    assert run("--root", str(tmp_path), "--dataset", "detection", *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]


def test_detection_prints_a_table(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a teacher that labels every picture, and a detector that sees nothing."""
    from emotion_edge.training.data import Teacher
    from emotion_edge.training.evaluation import detection_sources

    class Everywhere(Teacher):
        def __init__(self, file: Path) -> None:
            self.file = file

        def label(self, bgr: np.ndarray, min_score: float) -> np.ndarray:
            x, y = bgr.shape[1] / 2, bgr.shape[0] / 2
            return np.array([x, y, y, x - 5, y, x + 5, y, x, y, x, y + 5, x, y + 5], np.float32)

    class Blind:
        def detect(self, image: np.ndarray, pixel_format: str) -> list[object]:
            return []

    monkeypatch.setattr(detection_sources, "Teacher", Everywhere)
    monkeypatch.setattr(detection_sources, "open_detector", lambda *_: Blind())
    for name in ("clips", "pictures"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((72, 128, 3), 90, np.uint8))
    options = ["--clips", str(tmp_path / "clips"), "--pictures", str(tmp_path / "pictures")]
    options += ["--teacher", "t", "--root", str(tmp_path), "--split", "train", "--faces", "2"]
    assert run("--dataset", "detection", *options) == 0
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["conditions"]["roll 30 degrees"]["a.png"] == {"found": 0.0, "n": 1}
    assert results["conditions"]["roll 30 degrees"]["composites"]["n"] == 2
    assert results["false_boxes"]["pictures"] == 0
    assert "roll 30 degrees" in capsys.readouterr().out


def test_report_that_cannot_be_written(
    run: Run, faces: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The metrics are written all the same."""
    assert run(*faces, "--report", str(tmp_path / "train.csv")) == 2
    assert "--report" in capsys.readouterr().err
    assert (tmp_path / "metrics.json").exists()


def test_map_of_a_recipe(run: Run, faces: list[str], tmp_path: Path) -> None:
    """It is that of the data set in the same folder, else of the only one of its kind."""
    (tmp_path / "other").mkdir()
    recipe = tmp_path / "recipe.yaml"
    here, other = (
        f"{{kind: ferplus, root: {root}, map: {{fear: {label}}}}}"
        for root, label in ((".", "angry"), ("other", "''"))
    )
    for data, expected in ((f"[{other}, {here}]", {"angry": 8}), (f"[{other}]", {"angry": 4})):
        recipe.write_text(f"data: {data}")
        assert run(*faces, "--recipe", str(recipe)) == 0
        per_class = json.loads((tmp_path / "metrics.json").read_text())["per_class"]
        assert {name: one["support"] for name, one in per_class.items() if one["support"]} == (
            expected
        )
    recipe.write_text(f"data: [{other.replace('ferplus', 'ravdess')}]")
    assert run(*faces, "--recipe", str(recipe)) == 2
