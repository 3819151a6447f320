"""The training loop: a killed run resumes to the bit, a diverging run stops with a reason."""

from __future__ import annotations

import errno
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
from torch.nn import functional as F

from emotion_edge.training.errors import CheckpointError, DivergedError, TrainingError
from emotion_edge.training.loop import Batch, RunOptions, add_recipe_identity, fit
from emotion_edge.training.loop.schedule import FitRecipe, Schedule

SCHEDULE = Schedule(num_epochs=3, batches_per_epoch=5, peak_lr=0.02)


class Killed(Exception):
    """Stands for a power cut."""


class TinyNet(nn.Module):
    """A network with every kind of state: weights, a batch norm, dropout."""

    def __init__(self, num_labels: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, num_labels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(x)
        return embedding, self.head(embedding)


def make_batches(epoch: int, kill_at: tuple[int, int] | None = None) -> Iterator[Batch]:
    """Yield batches whose label is the sign of the first value, with noise of torch's generator."""
    rng = np.random.default_rng(epoch)
    for b in range(SCHEDULE.batches_per_epoch):
        if (epoch, b) == kill_at:
            raise Killed
        x = torch.from_numpy(rng.standard_normal((32, 6)).astype(np.float32))
        target = torch.stack([x[:, 0] > 0, x[:, 0] <= 0], dim=1).float()
        yield (x + 0.01 * torch.randn(32, 6),), target


def make_model(seed: int, num_labels: int = 2) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet(num_labels)


@pytest.mark.parametrize("kill_at", [(0, 3), (1, 0), (1, 3), (2, 4)])
def test_killed_and_resumed_is_the_same(tmp_path: Path, kill_at: tuple[int, int]) -> None:
    """The weights are equal to the bit; all state comes from the checkpoint."""
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
    """A further start returns the weights of the checkpoint and trains nothing."""
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
    """The averaged model separates separable classes and is in eval mode."""
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
from emotion_edge.training.loop import fit
from emotion_edge.training.loop.schedule import Schedule

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
    """Killed in the fourth of six epochs, with a checkpoint after the second: every later loss and
    the result equal those of a run without a kill."""
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
    """A checkpoint is also written after the last epoch."""
    done: list[int] = []

    def read_saved_epoch(epoch: int, score: float | None) -> None:
        assert score is None
        path = tmp_path / "net.ckpt"
        done.append(torch.load(path, weights_only=True)["epoch"] if path.exists() else 0)

    schedule = replace(SCHEDULE, num_epochs=5, checkpoint_every=2)
    options = RunOptions(on_epoch=read_saved_epoch)
    fit(make_model(0), make_batches, schedule, tmp_path / "net.ckpt", options=options)
    assert done == [0, 2, 2, 4, 5]


def make_validator(scores: list[float]) -> tuple[list[dict[str, Tensor]], object]:
    """Return the weights that were validated, and a function that returns `scores` in turn."""
    seen: list[dict[str, Tensor]] = []

    def validate(model: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return scores[len(seen) - 1]

    return seen, validate


@pytest.mark.parametrize(
    ("scores", "num_done", "best"),
    [
        ([0.5, 0.7, 0.6, 0.7, 0.9, 0.9, 0.9], 4, 2),  # an equal score is no improvement
        ([0.5, 0.4, 0.6, float("nan"), 0.2, 0.9, 0.9], 5, 3),
        ([-5.0, -4.0, -3.0, -2.0, -1.0, -1.5, 0.0], 7, 7),
    ],
)
def test_early_stopping(tmp_path: Path, scores: list[float], num_done: int, best: int) -> None:
    """The run ends after two epochs without improvement and returns the best weights, also when
    it is started again."""
    schedule = replace(SCHEDULE, num_epochs=7, patience=2)
    seen, validate = make_validator(scores)
    model = fit(make_model(0), make_batches, schedule, tmp_path / "a.ckpt", validate)
    assert len(seen) == num_done
    want = seen[best - 1]
    assert all(torch.equal(value, want[name]) for name, value in model.state_dict().items())
    _, unused = make_validator([])
    again = fit(make_model(1), make_batches, schedule, tmp_path / "a.ckpt", unused)
    assert all(torch.equal(value, want[name]) for name, value in again.state_dict().items())


def test_early_stopping_over_a_kill(tmp_path: Path) -> None:
    """The best weights and their epoch are in the checkpoint."""
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
    """Without patience, validation is only reported."""
    seen, validate = make_validator([0.9, 0.2, 0.1])
    model = fit(make_model(0), make_batches, SCHEDULE, validate=validate)
    assert all(torch.equal(v, seen[-1][name]) for name, v in model.state_dict().items())


def corrupt(value: float, at: tuple[int, int]) -> object:
    """Return batches with one value that is not finite."""

    def batches(epoch: int) -> Iterator[Batch]:
        for b, ((x,), target) in enumerate(make_batches(epoch)):
            if (epoch, b) == at:
                x[3, 1] = value
            yield (x,), target

    return batches


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite(tmp_path: Path, value: float) -> None:
    """The run stops, names epoch, batch and the last checkpoint, and can resume from it."""
    path = tmp_path / "net.ckpt"
    with pytest.raises(
        DivergedError, match=rf"nan in epoch 2, batch 3 of 5.*{path}, after epoch 1"
    ):
        fit(make_model(0), corrupt(value, (1, 2)), SCHEDULE, path)
    state = torch.load(path, weights_only=True)
    assert state["epoch"] == 1
    assert all(v.isfinite().all() for v in state["model"].values())
    whole = fit(make_model(0), make_batches, SCHEDULE)
    resumed = fit(make_model(1), make_batches, SCHEDULE, path)
    assert torch.equal(whole.head.weight, resumed.head.weight)


def test_gradient_that_is_not_finite(tmp_path: Path) -> None:
    """A finite loss with a NaN gradient in the last batch of an epoch reaches no checkpoint."""

    def loss_fn(output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        # The slope of the square root is infinite at zero.
        return F.cross_entropy(output[1], target) + (0 * output[1].sum()).sqrt()

    with pytest.raises(DivergedError, match=r"gradient is nan in epoch 1, batch 1 of 1"):
        fit(
            make_model(0),
            lambda epoch: [next(make_batches(epoch))],
            Schedule(1, 1),
            tmp_path / "net.ckpt",
            loss_fn=loss_fn,
        )
    assert not (tmp_path / "net.ckpt").exists()


@pytest.mark.parametrize("network", ["batch norm", "linear"])
def test_batch_of_one(network: str) -> None:
    """Batch normalization needs two examples, other networks train on one."""
    model = make_model(0) if network == "batch norm" else nn.Linear(6, 2)

    def batches(epoch: int) -> Iterator[Batch]:
        yield (torch.randn(1, 6),), torch.tensor([[1.0, 0.0]])

    if network == "linear":
        fit(model, batches, Schedule(1, 1))
    else:
        with pytest.raises(TrainingError, match=r"epoch 1, batch 1 of 1.*batch_size"):
            fit(model, batches, Schedule(1, 1))


def test_absent_label() -> None:
    """A class without examples is never predicted, and the logits stay finite."""

    def batches(epoch: int) -> Iterator[Batch]:
        for x, target in make_batches(epoch):
            yield x, F.pad(target, (0, 1))

    model = fit(make_model(0, num_labels=3), batches, Schedule(8, 5, 0.02, ema_decay=0.9))
    _, logits = model(torch.randn(50, 6))
    assert logits.isfinite().all()
    assert not (logits.argmax(dim=1) == 2).any()


@pytest.mark.parametrize("num_batches", [0, 4, 6])
def test_epoch_of_another_length(num_batches: int) -> None:
    """Refused: the steps of the schedule would be wrong."""
    batches = [next(make_batches(0))] * num_batches
    with pytest.raises(TrainingError, match=f"epoch 1 had {num_batches} batches.* 5"):
        fit(make_model(0), lambda epoch: batches, SCHEDULE)


def test_seed_changes_the_run() -> None:
    """Equal seeds give equal weights, another seed gives others."""
    a, b, c = (
        fit(make_model(0), make_batches, replace(SCHEDULE, seed=seed)).head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_checkpoint_of_another_run(tmp_path: Path) -> None:
    """A run with another network, schedule, recipe or list of labels cannot resume from it."""
    path = tmp_path / "net.ckpt"
    options_ab = RunOptions(identity={"labels": ("a", "b")})
    options_ac = RunOptions(identity={"labels": ("a", "c")})
    fit(make_model(0), make_batches, SCHEDULE, path, options=options_ab)
    before = path.read_bytes()
    cases = [
        (make_model(0, num_labels=3), SCHEDULE, options_ab, r"head.weight is \(2, 16\)"),
        (make_model(0), replace(SCHEDULE, peak_lr=0.1), options_ab, "peak_lr is 0.02"),
        (make_model(0), SCHEDULE, options_ac, "labels is"),
    ]
    for model, schedule, options, message in cases:
        with pytest.raises(CheckpointError, match=message):
            fit(model, make_batches, schedule, path, options=options)
    assert path.read_bytes() == before
    other_period = replace(SCHEDULE, checkpoint_every=3)  # has no effect on the weights
    fit(make_model(0), make_batches, other_period, path, options=options_ab)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops; with free space it resumes and ends with the weights of an undisturbed run."""
    path = tmp_path / "net.ckpt"
    os_replace, count = os.replace, 0

    def fill_up(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os_replace(source, target)

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(CheckpointError, match=os.strerror(errno.ENOSPC)):
        fit(make_model(0), make_batches, SCHEDULE, path)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    resumed = fit(make_model(1), make_batches, SCHEDULE, path)
    whole = fit(make_model(0), make_batches, SCHEDULE)
    assert torch.equal(whole.head.weight, resumed.head.weight)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(3, 0), "batch_size"),
        (Schedule(3, 5, patience=1), "patience"),
    ],
)
def test_settings_that_exclude_each_other(schedule: Schedule, message: str) -> None:
    """Refused before the first step."""
    with pytest.raises(TrainingError, match=message):
        fit(make_model(0), make_batches, schedule)


def test_warm_restart(tmp_path: Path) -> None:
    """A run starts from the given weights, unless there is a checkpoint to resume."""
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
    """Also for the epochs before a resume; an exception of the callback ends the run."""
    reported: list[tuple[int, float | None]] = []

    def stop_at_two(epoch: int, score: float | None) -> None:
        reported.append((epoch, score))
        if len(reported) == 2:
            raise Killed

    options = RunOptions(on_epoch=stop_at_two)
    _, validate = make_validator([0.1, 0.2])
    with pytest.raises(Killed):
        fit(make_model(0), make_batches, SCHEDULE, tmp_path / "a.ckpt", validate, options=options)
    reported.clear()
    options = RunOptions(on_epoch=lambda *report: reported.append(report))
    _, validate = make_validator([0.3])
    fit(make_model(0), make_batches, SCHEDULE, tmp_path / "a.ckpt", validate, options=options)
    assert reported == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_recipe_is_part_of_the_run() -> None:
    """Every setting except `checkpoint_every`, which has no effect on the weights."""
    options = RunOptions({"labels": "ab"})
    described = add_recipe_identity(options, FitRecipe(warmup=0.5))
    assert described.identity["labels"] == "ab"
    assert described.identity["warmup"] == 0.5
    assert add_recipe_identity(options, FitRecipe(warmup=0.5, checkpoint_every=9)) == described


def test_loss_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """One record per epoch, with the validation score."""
    caplog.set_level(logging.INFO)
    scores = iter([0.25, 0.5, 0.75])
    fit(make_model(0), make_batches, SCHEDULE, validate=lambda model: next(scores))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "0.5000" in lines[1]


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path) -> None:
    """Mixed precision trains as well, validation uses CPU tensors, the result is on the CPU, and a
    killed run resumes."""
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


def test_network_that_cannot_be_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a machine without a C++ compiler: one warning, and the weights of uncompiled training.

    The compiler's absence is simulated, because torch remembers one that it has found.
    """

    def broken_backend(*_: object) -> None:
        raise RuntimeError("no working compiler")

    compile_network = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **_: compile_network(model, backend=broken_backend)
    )
    trained = fit(make_model(0), make_batches, SCHEDULE, compile_model=True)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "no working compiler" in warnings[0].getMessage()
    expected = fit(make_model(0), make_batches, SCHEDULE)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
