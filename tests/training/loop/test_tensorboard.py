"""TensorBoard curves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emotion_edge.training.errors import TrainingError
from emotion_edge.training.loop.tensorboard import TensorBoardLog


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the curves of a folder with TensorBoard."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_curves_over_a_kill(tmp_path: Path) -> None:
    """A resumed run replaces the points after its checkpoint."""
    with TensorBoardLog(tmp_path) as tensorboard:
        for epoch in (1, 2, 3):
            tensorboard.write(epoch, {"loss": 1 / epoch, "validation": 0.5})
    with TensorBoardLog(tmp_path, first_epoch=3) as tensorboard:
        tensorboard.write(3, {"loss": 0.25})
    assert read_curves(tmp_path)["loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, and TensorBoard is not imported."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    with TensorBoardLog(None) as tensorboard:
        tensorboard.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="tensorboard"):
        TensorBoardLog(tmp_path)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "logs").write_text("")
    with pytest.raises(TrainingError, match=r"logs/run"):
        TensorBoardLog(tmp_path / "logs" / "run")
