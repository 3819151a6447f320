"""`emotion-train train`: from a configuration to a file of weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_edge.engines.bundles import LABELS
from emotion_edge.training.__main__ import main
from emotion_edge.training.commands.train import read_config
from emotion_edge.training.config import load_config
from emotion_edge.training.launch import VoiceData, make_network, prepare_data
from emotion_edge.training.stored_network import load_network

from ..event_files import read_curves, read_images
from ..wav_files import write_noise


def test_voice(ravdess_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights and their origin are written, cost and validation score are printed, curves are drawn
    on request, and a second start trains nothing."""
    out = tmp_path / "out: 1"
    args = ["train", "--preset", "toy-voice", "--root", str(ravdess_root), "--out", str(out)]
    args += ["--fold", "1", "--set", "num_epochs=3", "--log-dir", str(tmp_path / "logs")]
    args += ["--log-samples", "2"]
    assert main(args) == 0
    first, last = capsys.readouterr().out.splitlines()
    model, _ = make_network(load_config("toy-voice"))
    num = sum(parameter.numel() for parameter in model.parameters())
    assert f"toy-voice: {num:,} parameters, " in first
    stored, description = load_network(out / "voice.pt", "voice")
    model.load_state_dict(stored.state_dict())
    assert len(description.outputs) == 8
    assert description.labels == LABELS
    origin = json.loads((out / "voice.json").read_text())
    assert origin["config"]["fold"] == 1
    assert origin["config"]["num_epochs"] == origin["num_epochs"] == 3
    assert origin["num_parameters"] == num
    assert last == f"{out}/voice.pt: validation {origin['validation']:.4f}, 3 epochs"
    assert 0 <= origin["validation"] <= 1
    curves = read_curves(tmp_path / "logs")
    assert {"recall/happy", "calibration_error", "examples_per_s"} <= set(curves)
    assert curves["validation"][-1] == (3, round(origin["validation"], 4))
    ((_, images),) = read_images(tmp_path / "logs").items()
    assert [epoch for epoch, _ in images] == [1, 2, 3]
    assert images[0][1].std() > 10
    before = (out / "voice.pt").read_bytes()
    assert main(args) == 0
    assert capsys.readouterr().out.splitlines()[1] == last
    assert (out / "voice.pt").read_bytes() == before


def test_voice_without_a_fold(ravdess_root: Path, tmp_path: Path) -> None:
    """There is no validation data, and the origin has no score."""
    args = ["train", "--preset", "toy-voice", "--root", str(ravdess_root), "--out", str(tmp_path)]
    assert main([*args, "--set", "num_epochs=1"]) == 0
    assert json.loads((tmp_path / "voice.json").read_text())["validation"] is None


@pytest.mark.parametrize("preset", ["toy-face", "toy-voice"])
def test_folder_with_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], preset: str
) -> None:
    """Its people have splits, which only a recipe knows: one line names the commands."""
    write_noise(tmp_path / "03-01-03-01-01-01-02.wav")
    (tmp_path / "manifest.csv").write_text("file,label\n03-01-03-01-01-01-02.wav,happy\n")
    args = ["train", "--preset", preset, "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"emotion-train new {tmp_path}" in line
    assert not (tmp_path / "out").exists()


def test_face(ferplus_root: Path, tmp_path: Path) -> None:
    """Training at almost zero rate ends with the initial weights of --init-from."""
    out = tmp_path / "out"
    args = ["train", "--preset", "toy-face", "--root", str(ferplus_root), "--out", str(out)]
    args += ["--set", "rounds=[{stages: [{num_epochs: 1, sizes_px: [32]}]}]"]
    assert main(args) == 0
    given, description = load_network(out / "face.pt", "face")
    assert description.sizes_px == (32,)
    args[args.index(str(out))] = str(tmp_path / "again")
    args += ["--init-from", str(out / "face.pt"), "--set", "learning.peak_lr=1e-12"]
    assert main(args) == 0
    again, _ = load_network(tmp_path / "again" / "face.pt", "face")
    torch.testing.assert_close(again.embedding.weight, given.embedding.weight)


def test_fusion(tmp_path: Path) -> None:
    """Trained on the arrays of pairs.npz."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 7
    log_probabilities = np.log(0.05 + 0.65 * np.eye(7, dtype=np.float32)[labels])
    faces = (log_probabilities + 0.1 * rng.standard_normal((40, 7)).astype(np.float32))[:, None]
    np.savez(tmp_path / "pairs.npz", faces=faces, voices=log_probabilities, labels=labels)
    args = [
        "train",
        "--preset",
        "fusion-attention",
        "--root",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    assert main([*args, "--set", "num_epochs=2", "--set", "learning.batch_size=8"]) == 0
    origin = json.loads((tmp_path / "fusion.json").read_text())
    assert (origin["num_epochs"], origin["validation"]) == (2, None)
    assert origin["labels"] == list(LABELS)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--preset", "toy-voice", "--out", "x"], "--root"),
        (["--preset", "toy-voice", "--root", "x"], "--out"),
        (["--preset", "toy-face", "--fold", "1"], "--fold 1"),
        (["--preset", "toy-face", "--log-samples", "4"], "--log-dir"),
        (["--preset", "toy-vice"], "'toy-vice'"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--preset", "fusion-channel", "--root", "x", "--out", "y"], "x/pairs.npz"),
    ],
)
def test_usage_errors(
    args: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and one line that names the option or file."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *args]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_out_that_cannot_be_written(
    ravdess_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything is decoded."""
    (tmp_path / "file").touch()
    args = ["train", "--preset", "toy-voice", "--root", str(ravdess_root), "--cache"]
    assert main([*args, str(tmp_path / "c"), "--out", str(tmp_path / "file" / "x")]) == 2
    assert "--out" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_cache_of_prepare_is_used(
    ravdess_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both commands take the same folder without --cache."""
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--dataset", "ravdess", "--root", str(ravdess_root)]) == 0
    args = argparse.Namespace(preset="toy-voice", config=None, set=[], fold=None)
    paths = {"root": ravdess_root, "out": tmp_path / "out", "cache": None}
    assert Path(read_config(argparse.Namespace(**vars(args), **paths)).cache).is_dir()
    paths["cache"] = tmp_path / "other"
    assert read_config(argparse.Namespace(**vars(args), **paths)).cache == str(tmp_path / "other")


@pytest.mark.parametrize("fold", [1, 3])
def test_people_that_a_fold_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fold: int
) -> None:
    """With six actors no fold can be trained as published: the actors are named at once."""
    for actor in range(2, 8):
        write_noise(tmp_path / f"03-01-03-01-01-01-{actor:02}.wav", actor)
    args = ["train", "--preset", "toy-voice", "--root", str(tmp_path), "--out", str(tmp_path)]
    code = main([*args, "--fold", str(fold), "--set", "learning.batch_size=2"])
    if fold == 1:  # its validation actors 10, 11, 12, 18 are absent
        assert code == 2
        assert "10, 11, 12" in capsys.readouterr().err
    else:
        assert code == 0


def test_without_a_fold_all_actors_train(tmp_path: Path, ravdess_root: Path) -> None:
    """Also actor 1, who is in no fold."""
    write_noise(tmp_path / "03-01-03-01-01-01-01.wav")
    for file in ravdess_root.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = load_config("toy-voice", None, [f"root={tmp_path}", f"out={tmp_path / 'out'}"])
    data = prepare_data(config)
    assert isinstance(data, VoiceData)
    assert len(data.training.targets) == 41
    assert data.validation is None


def test_checkpoint_of_other_settings(
    ravdess_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the changed setting and both values."""
    args = ["train", "--preset", "toy-voice", "--root", str(ravdess_root), "--out", str(tmp_path)]
    args += ["--set", "num_epochs=1"]
    assert main(args) == 0
    capsys.readouterr()
    assert main([*args, "--set", "augmentation.crop_frames=100"]) == 2
    assert "crop_frames is 200, only 100" in capsys.readouterr().err
