"""`emotion-train voice-activity` and `evaluate --dataset voice_activity`, on a few seconds of
tones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.golden import golden_mel
from emotion_edge.engines.voice_activity import VoiceActivityDetector
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.__main__ import main
from emotion_edge.training.models import NUM_COLUMNS
from emotion_edge.training.recipes import voice_activity

from ..speech_files import make_recording, write_recording, write_teacher

Options = Callable[[], list[str]]


@pytest.fixture
def folders(tmp_path: Path, ravdess_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Recordings of tones, a sound of each fold of ESC, a teacher, and no espeak-ng."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for fold in range(1, 6):
        noise = np.random.default_rng(fold).uniform(-0.1, 0.1, 24_000).astype(np.float32)
        write_recording(tmp_path / "noise" / "dog" / f"{fold}-100-A.wav", noise)
    speech = tmp_path / "speech"
    for number in range(3):
        write_recording(speech / f"{number}.wav", make_recording(hertz=300 + 100 * number))
    teacher = write_teacher(tmp_path / "teacher.onnx")
    return {
        "--teacher": str(teacher),
        "--ravdess": str(ravdess_root),
        "--noise": str(tmp_path / "noise"),
        "--speech": str(speech),
        "--work": str(tmp_path / "work"),
        "--out": str(tmp_path / "out.onnx"),
    }


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = partial(
        voice_activity.VoiceActivityRecipe,
        batch_size=4,
        num_scenes=8,
        num_validation=2,
        num_synthetic_clips=0,
        num_epochs=1,
    )
    monkeypatch.setattr(voice_activity, "VoiceActivityRecipe", recipe)


def flatten(options: dict[str, str]) -> list[str]:
    return [text for pair in options.items() for text in pair]


@pytest.mark.usefixtures("tiny")
def test_train_and_score(
    folders: dict[str, str],
    null_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file that training writes is one that the device opens and `evaluate` scores."""
    assert main(["voice-activity", *flatten(folders)]) == 0
    with VoiceActivityDetector(Path(folders["--out"])) as detector:
        assert detector.num_columns == NUM_COLUMNS
        assert 0.0 < detector.probability(np.zeros((1, 64, 300), np.float32)) < 1.0
        golden = detector.probability(golden_mel(MelSpec(), NUM_COLUMNS))
    entry = json.loads(capsys.readouterr().out.partition('"voice_activity": ')[2])
    assert entry["file"] == "out.onnx"
    assert entry["columns"] == NUM_COLUMNS
    assert entry["golden_speech"] == pytest.approx(golden)
    assert 0.0 < entry["threshold"] < 1.0
    report = tmp_path / "report.json"
    options = ["--bundle", str(null_bundle), "--json", str(report), "--network", folders["--out"]]
    options += ["--root", folders["--ravdess"], "--noise", folders["--noise"]]
    assert main(["evaluate", "--dataset", "voice_activity", *options, "--actors", "2"]) == 0
    results = json.loads(report.read_text())
    assert list(results["used"]) == ["dog"]
    assert results["speech"][folders["--ravdess"]]["n"] == 2
    assert "dog" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("option", ["--teacher", "--ravdess", "--noise", "--speech"])
def test_missing_folder_is_named(
    folders: dict[str, str], option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders[option] = str(tmp_path / "absent")
    assert main(["voice-activity", *flatten(folders)]) == 2
    error = capsys.readouterr().err
    assert "absent" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--noise"),
        (["--noise", "N", "--report", "R"], "--report"),
        (["--noise", "N", "--robustness"], "--robustness"),
    ],
)
def test_evaluate_names_the_option(
    options: list[str],
    named: str,
    null_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--bundle", str(null_bundle), "--json", str(tmp_path / "j"), "--root", str(tmp_path)]
    assert main(["evaluate", "--dataset", "voice_activity", *given, *options]) == 2
    assert named in capsys.readouterr().err


def test_network_needs_its_data_set(
    null_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--bundle", str(null_bundle), "--json", str(tmp_path / "j"), "--root", str(tmp_path)]
    assert main(["evaluate", "--dataset", "ferplus", *given, "--network", "x"]) == 2
    assert "--network" in capsys.readouterr().err
