"""Data-parallel training: two processes on the CPU train the same weights as one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from emotion_edge.training.errors import TrainingError
from emotion_edge.training.loop.distributed import ProcessGroup, read_process_group, shard_batch

NETWORKS_SCRIPT = """
import pathlib, sys
import torch
from torch.nn import functional as F
from emotion_edge.training.loop.distributed import read_process_group
from emotion_edge.training.loop import fit
from emotion_edge.training.loop.schedule import Schedule
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.voice import VoiceNet

folder = pathlib.Path(sys.argv[1])
rank = read_process_group().rank
torch.set_num_threads(1)

def train(name, model, draw):
    def batches(epoch):
        for count in (8, 7, 8):  # seven rows do not divide evenly
            yield draw(count), F.one_hot(torch.arange(count) % 7, 7).float()

    def loss(output, target):  # in training, the voice network has logits of each member
        return F.cross_entropy(output[1].flatten(1)[:, :7], target)

    ema = fit(model, batches, Schedule(2, 3, 1e-3), loss_fn=loss)
    torch.save(ema.state_dict(), folder / f"{name}{rank}.pt")

torch.manual_seed(5)
train("face", FaceNet(dropout=0.0, max_drop=0.0), lambda n: (torch.randn(n, 3, 48, 48),))
torch.manual_seed(6)
voice = VoiceNet(7, 64, num_members=2, channels=(4, 8, 8), lstm_size=8, dropout=0.0)
train("voice", voice, lambda n: (torch.randn(n, 64, 96), torch.ones(n, 96)))
"""

TOLERANCE = 2e-3
"""AdamW divides by the size of a gradient, so a tiny gradient's rounding counts in full."""

SCRIPT = """
import atexit, pathlib, sys

def list_threads():  # of all libraries; first in, last out
    for path in pathlib.Path("/proc/self/task").glob("*/comm"):
        print("at exit:", path.read_text().strip())

atexit.register(list_threads)
import torch
from torch import nn
from torch.nn import functional as F
from emotion_edge.training.loop.distributed import read_process_group
from emotion_edge.training.loop import RunOptions, fit
from emotion_edge.training.loop.schedule import Schedule

folder = pathlib.Path(sys.argv[1])
rank = read_process_group().rank
torch.set_num_threads(1)
torch.manual_seed(3 + rank)  # each starts from weights of its own
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

def batches(epoch):
    for count in (16, 16, 9):  # nine rows do not divide evenly
        x = torch.randn(count, 6)
        yield (x,), F.one_hot((x[:, 0] > 0).long(), 2).float()

scores = iter([0.3, 0.6, 0.5, 0.4, 0.9, 0.9])
def validate(model):
    assert rank == 0
    return next(scores)

ema = fit(
    model, batches, Schedule(6, 3, 0.02, patience=2), folder / f"net{rank}.ckpt", validate,
    options=RunOptions(log_folder=folder / f"logs{rank}"),
)
torch.save(ema.state_dict(), folder / f"net{rank}.pt")
torch.save(model.state_dict(), folder / f"live{rank}.pt")
"""


def run_script(folder: Path, num_processes: int, script: str = SCRIPT) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "run.py").write_text(script)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    start = [*torchrun, str(num_processes)] if num_processes > 1 else []
    command = [sys.executable, *start, str(folder / "run.py"), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    if script == SCRIPT:
        assert "at exit: " in done.stdout
    assert "gloo" not in done.stdout  # a thread that outlives Python can abort the process


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def test_two_processes_train_the_same_weights_as_one(tmp_path: Path) -> None:
    """Both processes end with the weights of one process with whole batches; only the first one
    writes files; a further start uses its checkpoint (here: the run is finished)."""
    one, two = tmp_path / "one", tmp_path / "two"
    run_script(one, 1)
    run_script(two, 2)
    names = sorted(path.name for path in two.iterdir())
    assert names == ["live0.pt", "live1.pt", "logs0", "net0.ckpt", "net0.pt", "net1.pt", "run.py"]
    for kind in ("net", "live"):
        first, second = load(two / f"{kind}0.pt"), load(two / f"{kind}1.pt")
        whole = load(one / f"{kind}0.pt")
        for name, value in whole.items():
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)
    a, b = (torch.load(f / "net0.ckpt", weights_only=True) for f in (one, two))
    assert a["epoch"] == b["epoch"] == 4
    assert a["best_epoch"] == b["best_epoch"] == 2
    assert a["run"] == b["run"]
    for name, value in a["model"].items():
        torch.testing.assert_close(b["model"][name], value, rtol=1e-4, atol=1e-6)
    before = load(two / "net0.pt")
    run_script(two, 2)
    for rank in (0, 1):
        after = load(two / f"net{rank}.pt")
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_networks_that_ship_with_two_processes(tmp_path: Path) -> None:
    """Face and voice network, without dropout: batch normalization uses the whole batch, so six
    steps end with the same weights but for rounding."""
    one, two = tmp_path / "one", tmp_path / "two"
    run_script(one, 1, NETWORKS_SCRIPT)
    run_script(two, 2, NETWORKS_SCRIPT)
    for name in ("face", "voice"):
        whole, first, second = (
            load(f) for f in (one / f"{name}0.pt", *sorted(two.glob(f"{name}?.pt")))
        )
        assert list(whole) == list(first)
        for key, value in whole.items():
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=key)


@pytest.mark.parametrize(("count", "size"), [(8, 2), (9, 2), (7, 3), (3, 3)])
def test_shards_make_up_the_batch(count: int, size: int) -> None:
    """Every row occurs once, and the mean of the weighted means is the mean of all rows."""
    x, target = torch.arange(count), torch.randn(count, 1)
    shards = [shard_batch((x, -x), target, ProcessGroup(rank, size)) for rank in range(size)]
    rows = sorted(int(row) for (own, _), _, _ in shards for row in own)
    assert rows == list(range(count))
    assert all(torch.equal(own, -other) for (own, other), _, _ in shards)
    means = [factor * own_target.mean() for _, own_target, factor in shards]
    torch.testing.assert_close(torch.stack(means).mean(), target.mean())


def test_batch_smaller_than_the_group() -> None:
    """Refused: a process would have no row."""
    with pytest.raises(TrainingError, match=r"batch of 2 .* 3 processes.*batch_size"):
        shard_batch((torch.zeros(2),), torch.zeros(2, 1), ProcessGroup(0, 3))


def test_process_group_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of torchrun; without them one main process."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert read_process_group() == ProcessGroup(0, 1, 0)
    assert read_process_group().is_main
    for name, text in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, text)
    assert read_process_group() == ProcessGroup(5, 8, 1)
    assert not read_process_group().is_main


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0")])
def test_invalid_environment(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    """The error names the variables and their values."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(TrainingError, match=re.escape(f"RANK={rank}, WORLD_SIZE={size}")):
        read_process_group()
