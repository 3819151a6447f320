"""The training loop: a killed run ends with the very same weights, a bad one ends with a reason."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emotion_edge.training.errors import CheckpointError, DivergedError, TrainingError
from emotion_edge.training.loop.schedule import FitRecipe
from emotion_edge.training.loop.trainer import Batch, RunOptions, Schedule, add_recipe_identity, fit

SCHEDULE = Schedule(num_epochs=3, batches_per_epoch=5, peak_lr=0.02)


class Killed(Exception):
    """Stands for the power cut."""


class TinyNet(nn.Module):
    """Everything that has state: weights, a batch norm, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(x)
        return embedding, self.head(embedding)


def make_batches(epoch: int, kill_at: tuple[int, int] | None = None) -> Iterator[Batch]:
    """Label: the sign of the first number; torch's own random numbers are used, too."""
    rng = np.random.default_rng(epoch)
    for b in range(SCHEDULE.batches_per_epoch):
        if (epoch, b) == kill_at:
            raise Killed
        x = torch.from_numpy(rng.standard_normal((32, 6)).astype(np.float32))
        target = torch.stack([x[:, 0] > 0, x[:, 0] <= 0], dim=1).float()
        yield (x + 0.01 * torch.randn(32, 6),), target


def make_model(seed: int) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet()


@pytest.mark.parametrize("kill_at", [(0, 3), (1, 0), (1, 3), (2, 4)])
def test_killed_and_resumed_is_the_same(tmp_path: Path, kill_at: tuple[int, int]) -> None:
    """Bit for bit, wherever it was killed; all state comes from the checkpoint."""
    whole = fit(make_model(0), make_batches, SCHEDULE)
    checkpoint = tmp_path / "runs" / "net.ckpt"
    with pytest.raises(Killed):
        fit(make_model(0), lambda epoch: make_batches(epoch, kill_at), SCHEDULE, checkpoint)
    assert checkpoint.exists() == (kill_at[0] > 0)
    torch.rand(17)  # another process has another random state
    resumed_model = make_model(1 if checkpoint.exists() else 0)
    resumed = fit(resumed_model, make_batches, SCHEDULE, checkpoint)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert [path.name for path in checkpoint.parent.iterdir()] == ["net.ckpt"]


def test_finished_run_is_not_run_again(tmp_path: Path) -> None:
    """Started a third time it returns what is in the checkpoint."""
    first = fit(make_model(0), make_batches, SCHEDULE, tmp_path / "net.ckpt")
    again = fit(
        make_model(5),
        lambda epoch: make_batches(epoch, (epoch, 0)),
        SCHEDULE,
        tmp_path / "net.ckpt",
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )


def test_fit_reduces_the_loss() -> None:
    """The averaged model separates what can be separated, and is ready for use."""
    schedule = Schedule(num_epochs=12, batches_per_epoch=5, peak_lr=0.02, ema_decay=0.9)
    scores: list[float] = []

    def validate(model: nn.Module) -> float:
        assert not model.training
        x = torch.from_numpy(np.random.default_rng(99).standard_normal((400, 6)).astype(np.float32))
        scores.append(float(((model(x)[1].argmax(dim=1) == 0) == (x[:, 0] > 0)).float().mean()))
        return scores[-1]

    model = fit(make_model(0), make_batches, schedule, validate=validate)
    assert not model.training
    assert len(scores) == 12
    assert scores[-1] > 0.9


SCRIPT = """
import os, pathlib, signal, sys
import torch
from torch import nn
from torch.nn import functional as F
from emotion_edge.training.loop.trainer import Schedule, fit

folder, kill_at = pathlib.Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
torch.manual_seed(4)
model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 2))
step = int(sys.argv[3])

def batches(epoch):
    for _ in range(5):
        x = torch.randn(32, 6)
        yield (x,), F.one_hot((x[:, 0] > 0).long(), 2).float()

def loss_fn(logits, target):
    global step
    loss = F.cross_entropy(logits, target)
    with (folder / "losses.txt").open("a") as file:
        file.write(f"{step} {loss.item().hex()}\\n")
    if step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    step += 1
    return loss

schedule = Schedule(6, 5, 0.02, checkpoint_every=2)
ema = fit(model, batches, schedule, folder / "net.ckpt", loss_fn=loss_fn)
torch.save(ema.state_dict(), folder / "net.pt")
"""


def run_script(folder: Path, kill_at: int, first_step: int = 0) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "run.py"), str(folder), str(kill_at), str(first_step)]
    return subprocess.run(command, check=False, timeout=500).returncode


def test_sigkill_in_an_epoch(tmp_path: Path) -> None:
    """Killed in the fourth of six epochs, with a checkpoint after the second: every loss from there
    on, and the result, are those of the run that nobody killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_script(whole, kill_at=-1) == 0
    assert run_script(killed, kill_at=17) == -signal.SIGKILL
    before = (killed / "losses.txt").read_text().splitlines()
    assert run_script(killed, kill_at=-1, first_step=10) == 0
    want = (whole / "losses.txt").read_text().splitlines()
    assert len(want) == 30
    assert before == want[:18]
    assert (killed / "losses.txt").read_text().splitlines()[18:] == want[10:]
    a, b = (torch.load(folder / "net.pt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_checkpoint_every_few_epochs(tmp_path: Path) -> None:
    """And always after the last."""
    done: list[int] = []

    def look(epoch: int, score: float | None) -> None:
        assert score is None
        path = tmp_path / "net.ckpt"
        done.append(torch.load(path, weights_only=True)["epoch"] if path.exists() else 0)

    schedule = replace(SCHEDULE, num_epochs=5, checkpoint_every=2)
    options = RunOptions(on_epoch=look)
    fit(make_model(0), make_batches, schedule, tmp_path / "net.ckpt", options=options)
    assert done == [0, 2, 2, 4, 5]


def make_validator(scores: list[float]) -> tuple[list[dict[str, Tensor]], object]:
    """A judge that gives these scores in turn, and the weights it was shown."""
    seen: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return scores[len(seen) - 1]

    return seen, validate


@pytest.mark.parametrize(
    ("scores", "num_done", "best"),
    [
        ([0.5, 0.7, 0.6, 0.7, 0.9, 0.9, 0.9], 4, 2),  # as good is no better
        ([0.5, 0.4, 0.6, float("nan"), 0.2, 0.9, 0.9], 5, 3),
        ([-5.0, -4.0, -3.0, -2.0, -1.0, -1.5, 0.0], 7, 7),
    ],
)
def test_early_stopping(tmp_path: Path, scores: list[float], num_done: int, best: int) -> None:
    """After two epochs without a better one it ends, with the best; started again it knows."""
    schedule = replace(SCHEDULE, num_epochs=7, patience=2)
    seen, validate = make_validator(scores)
    model = fit(make_model(0), make_batches, schedule, tmp_path / "a.ckpt", validate)
    assert len(seen) == num_done
    want = seen[best - 1]
    assert all(torch.equal(value, want[name]) for name, value in model.state_dict().items())
    _, nobody = make_validator([])
    again = fit(make_model(1), make_batches, schedule, tmp_path / "a.ckpt", nobody)
    assert all(torch.equal(value, want[name]) for name, value in again.state_dict().items())


def test_early_stopping_over_a_kill(tmp_path: Path) -> None:
    """The best and how long it has been are in the checkpoint."""
    schedule = replace(SCHEDULE, num_epochs=7, patience=3)
    seen, validate = make_validator([0.1, 0.8, 0.3])
    with pytest.raises(Killed):
        fit(
            make_model(0),
            lambda epoch: make_batches(epoch, (3, 2)),
            schedule,
            tmp_path / "a.ckpt",
            validate,
        )
    more, validate = make_validator([0.7, 0.6])
    model = fit(make_model(1), make_batches, schedule, tmp_path / "a.ckpt", validate)
    assert len(more) == 2
    assert all(torch.equal(v, seen[1][name]) for name, v in model.state_dict().items())


def test_without_patience_the_last_is_returned() -> None:
    """Validation is then only reported."""
    seen, validate = make_validator([0.9, 0.2, 0.1])
    model = fit(make_model(0), make_batches, SCHEDULE, validate=validate)
    assert all(torch.equal(v, seen[-1][name]) for name, v in model.state_dict().items())


def corrupt(value: float, at: tuple[int, int]) -> object:
    """Batches in which one number is not one."""

    def batches(epoch: int) -> Iterator[Batch]:
        for b, ((x,), target) in enumerate(make_batches(epoch)):
            if (epoch, b) == at:
                x[3, 1] = value
            yield (x,), target

    return batches


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_no_number(tmp_path: Path, value: float) -> None:
    """It stops at once, says where, and the checkpoint before is good to go on from."""
    path = tmp_path / "net.ckpt"
    message = (
        rf"loss is nan in epoch 2, batch 3 of 5: stopped; the last good .*{path}, after epoch 1$"
    )
    with pytest.raises(DivergedError, match=message):
        fit(make_model(0), corrupt(value, (1, 2)), SCHEDULE, path)
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == 1
    assert all(v.isfinite().all() for v in state["model"].values())
    whole = fit(make_model(0), make_batches, SCHEDULE)
    resumed = fit(make_model(1), make_batches, SCHEDULE, path)
    assert torch.equal(whole.head.weight, resumed.head.weight)


def test_no_number_in_the_first_epoch(tmp_path: Path) -> None:
    """Then there is nothing to go on from, and it says so."""
    with pytest.raises(DivergedError, match=r"epoch 1, batch 1 of 5.*there is no checkpoint yet"):
        fit(make_model(0), corrupt(float("nan"), (0, 0)), SCHEDULE, tmp_path / "net.ckpt")
    assert not (tmp_path / "net.ckpt").exists()


def test_checkpoint_of_another_run(tmp_path: Path) -> None:
    """Another network, schedule, recipe or list of labels does not go on from it."""
    path = tmp_path / "net.ckpt"
    mine = RunOptions(identity={"labels": ("a", "b")})
    fit(make_model(0), make_batches, SCHEDULE, path, options=mine)
    before = path.read_bytes()
    wide = make_model(0)
    wide.head = nn.Linear(16, 3)
    cases = [
        (wide, SCHEDULE, mine, r"head.weight is \(2, 16\), only \(3, 16\)"),
        (make_model(0), replace(SCHEDULE, peak_lr=0.1), mine, "peak_lr is 0.02, only 0.1"),
        (make_model(0), SCHEDULE, RunOptions(identity={"labels": ("a", "c")}), "labels is"),
    ]
    for model, schedule, options, message in cases:
        with pytest.raises(CheckpointError, match=message):
            fit(model, make_batches, schedule, path, options=options)
    assert path.read_bytes() == before
    often = replace(SCHEDULE, checkpoint_every=3)  # that changes nothing that is learned
    fit(make_model(0), make_batches, often, path, options=mine)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with one line; started again with room, as if nothing had happened."""
    path = tmp_path / "net.ckpt"
    replace, count = os.replace, 0

    def fill_up(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(CheckpointError, match=r"No space left on device; the one before it"):
        fit(make_model(0), make_batches, SCHEDULE, path)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    resumed = fit(make_model(1), make_batches, SCHEDULE, path)
    whole = fit(make_model(0), make_batches, SCHEDULE)
    assert torch.equal(whole.head.weight, resumed.head.weight)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(3, 0), "fewer examples than make one batch"),
        (Schedule(3, 5, patience=1), "patience needs somebody to validate on"),
    ],
)
def test_settings_that_cannot_work(schedule: Schedule, message: str) -> None:
    """Said before anything is learned."""
    with pytest.raises(TrainingError, match=message):
        fit(make_model(0), make_batches, schedule)


def test_warm_restart(tmp_path: Path) -> None:
    """Starts from the given weights, unless there is a checkpoint to go on from."""
    given = make_model(7)
    torch.save(given.state_dict(), tmp_path / "given.pt")
    still = Schedule(1, 5, peak_lr=0.0)
    options = RunOptions(init_from=tmp_path / "given.pt")
    path = tmp_path / "net.ckpt"
    started = fit(make_model(0), make_batches, still, path, options=options)
    assert torch.equal(started.head.weight, given.head.weight)
    torch.save(make_model(8).state_dict(), tmp_path / "given.pt")
    resumed = fit(make_model(0), make_batches, still, path, options=options)
    assert torch.equal(resumed.head.weight, given.head.weight)


def test_on_epoch_is_called_for_every_epoch(tmp_path: Path) -> None:
    """After a resume the epochs before it, too; what a listener raises ends the run."""
    reported: list[tuple[int, float | None]] = []

    def listen(epoch: int, score: float | None) -> None:
        reported.append((epoch, score))
        if len(reported) == 2:
            raise Killed

    options = RunOptions(on_epoch=listen)
    _, validate = make_validator([0.1, 0.2])
    with pytest.raises(Killed):
        fit(make_model(0), make_batches, SCHEDULE, tmp_path / "a.ckpt", validate, options=options)
    reported.clear()
    options = RunOptions(on_epoch=lambda *news: reported.append(news))
    _, validate = make_validator([0.3])
    fit(make_model(0), make_batches, SCHEDULE, tmp_path / "a.ckpt", validate, options=options)
    assert reported == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_recipe_is_part_of_the_run() -> None:
    """All but how often it saves, which changes nothing that is learned."""
    described = add_recipe_identity(RunOptions({"labels": "ab"}), FitRecipe(warmup=0.5))
    assert described.identity["labels"] == "ab"
    assert described.identity["warmup"] == 0.5
    often = add_recipe_identity(
        RunOptions({"labels": "ab"}), FitRecipe(warmup=0.5, checkpoint_every=9)
    )
    assert often == described


def test_loss_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """One line per epoch."""
    caplog.set_level(logging.INFO)
    scores = iter([0.25, 0.5, 0.75])
    fit(make_model(0), make_batches, SCHEDULE, validate=lambda model: next(scores))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert lines[1].endswith(", validation 0.5000")


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path) -> None:
    """In 16 bits it learns the same, those who judge it bring and get CPU tensors, the result is on
    the CPU, and a killed run goes on."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    x = torch.randn(400, 6)

    def validate(model: nn.Module) -> float:
        return float(((model(x)[1].numpy().argmax(axis=1) == 0) == (x[:, 0] > 0).numpy()).mean())

    schedule = Schedule(12, 5, 0.02, ema_decay=0.9)
    with pytest.raises(Killed):
        fit(
            make_model(0),
            lambda epoch: make_batches(epoch, (6, 1)),
            schedule,
            tmp_path / "net.ckpt",
            validate,
        )
    model = fit(make_model(1), make_batches, schedule, tmp_path / "net.ckpt", validate)
    assert next(model.parameters()).device.type == "cpu"
    assert validate(model) > 0.9
