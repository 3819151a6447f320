"""Curves for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emotion_edge.training.errors import TrainingError
from emotion_edge.training.loop.tensorboard import TensorBoardLog


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself makes of the folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_curves_over_a_kill(tmp_path: Path) -> None:
    """What a killed run had drawn after its checkpoint is drawn again, not twice."""
    with TensorBoardLog(tmp_path) as logbook:
        for epoch in (1, 2, 3):
            logbook.write(epoch, {"loss": 1 / epoch, "validation": 0.5})
    with TensorBoardLog(tmp_path, first_epoch=3) as logbook:
        logbook.write(3, {"loss": 0.25})
    assert read_curves(tmp_path)["loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, and TensorBoard need not be there."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    with TensorBoardLog(None) as logbook:
        logbook.write(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "logs").write_text("")
    with pytest.raises(TrainingError, match=r"logs/run: cannot be written: \w+"):
        TensorBoardLog(tmp_path / "logs" / "run")
