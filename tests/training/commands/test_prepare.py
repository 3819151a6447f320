"""`emotion-train prepare`: decodes usable files, names the others, and resumes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.training.__main__ import main
from emotion_edge.training.command_line import EXIT_INTERRUPTED
from emotion_edge.training.data import voices
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.ravdess import find_voice_clips

from ..wav_files import write_noise

WriteFerplus = Callable[..., Path]
Prepare = Callable[..., int]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def prepare(root: Path, tmp_path: Path) -> Prepare:
    """A function (data set, options) -> exit code of the command for `root`."""

    def run(dataset: str, *options: str) -> int:
        folders = ["--root", str(root), "--cache", str(tmp_path / "cache")]
        return main(["prepare", "--dataset", dataset, *folders, *options])

    return run


@pytest.fixture
def ravdess(root: Path) -> Path:
    """Actor 2: a good recording, its copy, an empty one, a broken one. Actor 5: a good one."""
    folder = root / "Audio_Speech_Actors_01-24" / "Actor_02"
    write_noise(folder / "03-01-03-01-01-01-02.wav", 1)
    write_noise(folder / "03-01-03-01-01-02-02.wav", 1)
    (folder / "03-01-04-01-01-01-02.wav").touch()
    (folder / "03-01-05-01-01-01-02.wav").write_bytes(b"broken")
    write_noise(root / "Actor_05" / "03-01-06-01-01-01-05.wav", 2)
    return root


def test_ravdess(ravdess: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, labels and each skipped file with the reason on stdout, nothing on stderr."""
    assert prepare("ravdess") == 0
    out, err = capsys.readouterr()
    summary, labels, warning, *skipped = out.splitlines()
    assert summary == ("recordings: 5 files, 0 from the cache; 2 usable, 2 skipped, 1 duplicates")
    assert labels.strip() == "angry 0, disgust 0, fear 1, happy 1, sad 0, surprise 0, neutral 0"
    assert "angry, disgust, sad, surprise, neutral" in warning
    files = ("03-01-04-01-01-01-02", "03-01-05-01-01-01-02", "03-01-03-01-01-02-02")
    for name, line in zip(files, skipped, strict=True):
        assert f"{name}.wav: " in line
    assert err == ""
    assert prepare("ravdess", "--actors", "5") == 0
    assert "recordings: 1 files, 1 from the cache; 1 usable, 0 skip" in capsys.readouterr().out


def test_second_run_and_training_use_the_cache(
    ravdess: Path,
    prepare: Prepare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cached files are decoded again neither by the command nor by training."""
    prepare("ravdess")
    first = capsys.readouterr().out
    decoded = []
    decode_audio = voices.decode_audio

    def decode(path: Path, rate_hz: int) -> Any:
        decoded.append(path.name)
        return decode_audio(path, rate_hz)

    monkeypatch.setattr(voices, "decode_audio", decode)
    assert prepare("ravdess") == 0
    assert capsys.readouterr().out == first.replace(" 0 from", " 3 from")
    cache = FeatureCache(tmp_path / "cache")
    assert len(voices.load_voices(find_voice_clips(ravdess), MelSpec(), cache).audio_clips) == 2
    assert set(decoded) == {"03-01-04-01-01-01-02.wav", "03-01-05-01-01-01-02.wav"}


def test_resumes_after_a_stop(
    ravdess: Path,
    prepare: Prepare,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files decoded before the stop come from the cache."""
    decode_audio = voices.decode_audio

    def stop_at_the_third(path: Path, rate_hz: int) -> Any:
        # Actor_05 comes before Audio_Speech_Actors_01-24.
        if path.name == "03-01-03-01-01-02-02.wav":
            raise KeyboardInterrupt
        return decode_audio(path, rate_hz)

    with monkeypatch.context() as patched:
        patched.setattr(voices, "decode_audio", stop_at_the_third)
        assert prepare("ravdess") == EXIT_INTERRUPTED
    assert prepare("ravdess") == 0
    assert "5 files, 2 from the cache; 2 usable" in capsys.readouterr().out


def test_ferplus(
    prepare: Prepare,
    write_ferplus: WriteFerplus,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every present split; unreadable faces by name."""
    rows = {"a.png": {"happiness": 10}, "b.png": {"anger": 5, "fear": 5}, "c.png": {"fear": 9}}
    root = write_ferplus({**rows, "voteless.png": {"NF": 10}}, {"c.png": b"broken"})
    for cached in (0, 2):
        assert prepare("ferplus", "--root", str(root)) == 0
        out = capsys.readouterr().out
        assert f"train: 4 files, {cached} from the cache; 2 usable, 2 skipped, 0 d" in out
        assert "happy 1," in out
        assert "1 usable faces without" in out
        assert "1 faces skipped" in out
        assert "train: c.png: " in out
        assert "valid" not in out


def test_folder(root: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by kind of file, copies once; one split on request."""
    root.mkdir()
    write_noise(root / "1.wav", 1)
    write_noise(root / "2.wav", 1)
    cv2.imwrite(str(root / "3.png"), draw_face(1.0))
    cv2.imwrite(str(root / "4.png"), np.zeros((30, 60, 3), np.uint8))
    rows = ("1.wav,happy,ann,train", "2.wav,happy,bob,valid", "3.png,sad,ann,train")
    lines = ("file,label,subject,split", *rows, "4.png,sad,cid,test")
    (root / "manifest.csv").write_text("\n".join(lines))
    assert prepare("folder") == 0
    out = capsys.readouterr().out
    assert "copies: 1 files" in out
    assert "1.wav: " in out
    assert "recordings: 1 files, 0 from the cache; 1 usable" in out
    assert "images: 2 files, 0 from the cache; 1 usable, 1 skipped" in out
    assert "4.png: " in out
    assert prepare("folder", "--split", "valid") == 0
    out = capsys.readouterr().out
    assert "recordings: 1 files, 1 from the cache" in out
    assert "images" not in out


def test_action_units(root: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    """From the folder of the table, or the table itself."""
    root.mkdir()
    table = root / "openface_au_mean.csv"
    table.write_text(f"clip,{','.join(UNITS)}\n01-01-03-01-02-01-07{',0.5' * 35}\n")
    assert prepare("action-units") == 0
    assert prepare("action-units", "--root", str(table)) == 0
    out = capsys.readouterr().out
    assert out.count("action units: 1 files") == 2
    assert "happy 1" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["ravdess"], "data: "),
        (["ferplus"], "data: "),
        (["folder"], "data: "),
        (["action-units"], "data: "),
        (["ravdess", "--root", "."], ".: "),
        (["ravdess", "--root", ".", "--actors", "5,4"], "[4, 5]"),
        (["ferplus", "--root", "."], "train.csv: "),
        (["ferplus", "--root", ".", "--split", "test"], "test.csv: "),
        (["folder", "--root", "."], "manifest.csv: "),
        (["action-units", "--root", "."], "openface_au_mean.csv: "),
        (["ravdess", "--split", "train"], "--split train: "),
        (["ferplus", "--actors", "5"], "--actors: "),
        (["ravdess", "--cache", "a-file/cache"], "--cache a-file/cache: "),
    ],
)
def test_wrong_arguments(
    prepare: Prepare,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    named: str,
) -> None:
    """Exit code 2 and one line that names the folder, file or option."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    assert prepare(*arguments) == 2
    out, err = capsys.readouterr()
    assert named in err
    assert err.count("\n") == 1
    assert out == ""


def test_nothing_usable(root: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file is named, and the exit code is 2."""
    root.mkdir()
    (root / "03-01-04-01-01-01-02.wav").touch()
    assert prepare("ravdess") == 2
    out, err = capsys.readouterr()
    assert "03-01-04-01-01-01-02.wav: " in out
    assert f"{root}: " in err
    assert err.count("\n") == 1


def test_full_disk(
    ravdess: Path,
    prepare: Prepare,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The counts are printed, and the incomplete cache is an error of one line."""

    def fill_up(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fill_up)
    assert prepare("ravdess") == 2
    out, err = capsys.readouterr()
    assert "recordings: 5 files" in out
    assert os.strerror(errno.ENOSPC) in err.splitlines()[-1]


def test_help_is_quick() -> None:
    """The command line is built without importing OpenCV, PyAV and PyTorch."""
    code = (
        "import sys; from emotion_edge.training.commands import prepare;"
        "print([name for name in ('cv2', 'av', 'torch') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=500
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_recipe(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All data of a recipe is checked and decoded, once; the cache is the recipe's own."""
    rows = []
    for number, (person, split) in enumerate((("ann", "train"), ("bob", "valid"))):
        for label in ("joy", "sad"):
            name = f"{person}{label}.wav"
            write_noise(root / name, 2 * number + (label == "joy"))
            rows.append(f"{name},{label},{person},{split}")
    (root / "broken.wav").write_bytes(b"broken")
    lines = ["file,label,subject,split", *rows, "broken.wav,sad,cid,test"]
    (root / "manifest.csv").write_text("\n".join(lines))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "labels: [joy, sad]\ndata: [{kind: folder, root: data}]\nface: null\n"
        "voice: {learning: {batch_size: 2}}\n"
    )
    assert main(["prepare", str(recipe)]) == 0
    first = capsys.readouterr().out
    assert "voice: 4 examples of 2 people: train 2, valid 2, test 0" in first
    assert "joy 2, sad 2" in first
    assert "broken.wav: " in first
    assert len(list((tmp_path / "work" / "cache").rglob("*.npz"))) == 4
    monkeypatch.setattr(voices, "decode_audio", lambda path, _: pytest.fail(str(path)))
    (root / "broken.wav").unlink()
    lines.pop()
    (root / "manifest.csv").write_text("\n".join(lines))
    assert main(["prepare", str(recipe)]) == 0
    assert "0 files skipped" in capsys.readouterr().out
    assert main(["prepare", str(recipe), "--root", str(root)]) == 2
    assert main(["prepare", "--root", str(root)]) == 2
