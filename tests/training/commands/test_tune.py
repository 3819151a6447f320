"""`emotion-train tune`."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.training.__main__ import main
from emotion_edge.training.config import load_config


def test_search_and_train(
    ravdess_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two trials write a configuration for `train`; a further search counts them."""
    out = tmp_path / "out"
    settings = ["--preset", "toy-voice", "--root", str(ravdess_root), "--out", str(out)]
    settings += ["--set", "num_epochs=1"]
    search = ["tune", *settings, "--storage", f"sqlite:///{tmp_path}/study.db", "--trials"]
    assert main([*search, "2"]) == 0
    *values, last = capsys.readouterr().out.splitlines()
    assert [value.split(":")[0] for value in values] == [
        "learning.peak_lr",
        "learning.weight_decay",
        "learning.label_smoothing",
        "network.dropout",
    ]
    assert last.startswith(f"{out}/best.yaml: ")
    assert last.endswith(" 2")
    best = load_config(file=out / "best.yaml")
    assert f"learning.peak_lr: {best.learning.peak_lr:.6g}" == values[0]
    assert best.num_epochs == 1
    assert main([*search, "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" 3")
    assert main(["train", "--config", str(out / "best.yaml")]) == 0
    assert (out / "voice.pt").is_file()


@pytest.mark.parametrize("trials", ["0", "-1", "some"])
def test_trials(trials: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The number of trials is positive."""
    with pytest.raises(SystemExit):
        main(["tune", "--preset", "toy-face", "--storage", "sqlite://", "--trials", trials])
    assert f"--trials: '{trials}'" in capsys.readouterr().err


def test_without_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before the search."""
    assert main(["tune", "--preset", "toy-face", "--storage", "sqlite://"]) == 2
    assert "--out" in capsys.readouterr().err
