"""TensorBoard curves and images, read back from the event files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emotion_edge.training.errors import TrainingError
from emotion_edge.training.loop import Batch, Predictions, RunOptions, fit
from emotion_edge.training.loop.schedule import Schedule, learning_rate
from emotion_edge.training.loop.tensorboard import TensorBoardLog

from ..event_files import read_curves, read_images

SCHEDULE = Schedule(num_epochs=2, batches_per_epoch=3, peak_lr=0.02)


def fit_two_epochs(model: nn.Module, folder: Path, num_samples: int, **given: Any) -> nn.Module:
    """Train on three batches of four examples an epoch, of two labels of three."""
    options = RunOptions({"labels": ("a", "b", "c")}, None, folder, num_samples=num_samples)

    def batches(epoch: int) -> Iterator[Batch]:
        for _ in range(3):
            yield (torch.rand(4, 2) + epoch,), torch.eye(3)[[0, 1, 0, 1]]

    return fit(model, batches, SCHEDULE, options=options, **given)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, 3)


def test_curves_of_a_run(tmp_path: Path) -> None:
    """Loss, learning rate, throughput, and of the validation the accuracy, the recall of each label
    that occurs, and the calibration error."""
    rows = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])
    predictions = Predictions(rows, np.array([0, 0, 1, 1]))
    fit_two_epochs(make_model(), tmp_path, 0, validate=lambda _: predictions)
    curves = read_curves(tmp_path)
    assert all(value > 0 for _, value in curves.pop("examples_per_s"))
    rates = [(1, round(learning_rate(2, SCHEDULE), 4)), (2, round(learning_rate(5, SCHEDULE), 4))]
    assert curves.pop("learning_rate") == rates
    assert len(curves.pop("loss")) == 2
    # Of 4, at a confidence of 0.8 two of three are right, at 0.6 none.
    error = round((3 * abs(2 / 3 - 0.8) + 0.6) / 4, 4)
    want = {"validation": 0.5, "recall/a": 0.5, "recall/b": 0.5, "calibration_error": error}
    assert curves == {name: [(1, value), (2, value)] for name, value in want.items()}
    assert read_images(tmp_path) == {}


def test_samples_are_opt_in(tmp_path: Path) -> None:
    """The first inputs of each epoch as one image; the weights are those of a run without."""

    def draw(inputs: tuple[Tensor, ...]) -> Tensor:
        (values,) = inputs
        assert values.shape == (3, 2)
        return (values.mean(dim=1) / 2).view(3, 1, 1, 1).expand(3, 1, 5, 4)

    with_samples = fit_two_epochs(make_model(), tmp_path / "a", 3, draw_inputs=draw)
    without = fit_two_epochs(make_model(), tmp_path / "b", 0, draw_inputs=draw)
    (name,) = images = read_images(tmp_path / "a")
    (first, before), (second, after) = images[name]
    assert (first, second) == (1, 2)
    assert before.shape[:2] == (5, 12)
    assert after.min() > 127 > before.max()
    assert read_images(tmp_path / "b") == {}
    for value, wanted in zip(with_samples.parameters(), without.parameters(), strict=True):
        assert torch.equal(value, wanted)


def test_labels_of_another_length_are_numbered() -> None:
    """As of a network whose labels the run does not know."""
    predictions = Predictions(np.eye(2), np.array([0, 0]))
    assert predictions.list_curves(("a", "b", "c")) == {"recall/0": 0.5, "calibration_error": 0.5}


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
