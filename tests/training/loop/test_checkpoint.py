"""Checkpoints: atomic, only of the same run, and without code execution."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from emotion_edge.training.errors import CheckpointError
from emotion_edge.training.loop.checkpoint import (
    describe_run,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)

RUN = {"network": "Linear", "labels": "('a', 'b')", "weight": "(2, 3)"}


class Bomb:
    """An object that runs code when it is unpickled."""

    def __init__(self, trace_file: Path) -> None:
        self.trace_file = trace_file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace_file,)


def save(path: Path, **more: object) -> Path:
    save_checkpoint(path, {"run": RUN, "epoch": 3, "weights": torch.arange(4.0), **more})
    return path


def test_round_trip(tmp_path: Path) -> None:
    """Tensors, numbers and None come back unchanged; no other file is left."""
    path = save(tmp_path / "a" / "net.ckpt", best=None, score=0.1)
    state = load_checkpoint(path, dict(reversed(RUN.items())))
    assert torch.equal(state["weights"], torch.arange(4.0))
    assert (state["epoch"], state["best"], state["score"]) == (3, None, 0.1)
    assert list(path.parent.iterdir()) == [path]


def test_full_disk_keeps_the_old_one(tmp_path: Path) -> None:
    """A limit of the file size stands for a full disk: the old file stays, and no other is left."""
    path = save(tmp_path / "net.ckpt")
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=str(path)):
            save(path, large=torch.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(CheckpointError, match=r"runs/net\.ckpt"):
        save(tmp_path / "runs" / "net.ckpt")


def test_killed_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed write leaves the previous checkpoint, and the next write succeeds."""
    path = save(tmp_path / "net.ckpt")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        save(path, epoch=4)
    monkeypatch.undo()
    assert load_checkpoint(path, RUN)["epoch"] == 3
    save(path, epoch=4)
    assert load_checkpoint(path, RUN)["epoch"] == 4
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({**RUN, "labels": "('b', 'a')"}, r"labels is \('a', 'b'\), .*\('b', 'a'\)"),
        ({**RUN, "weight": "(7, 3)"}, r"weight is \(2, 3\), .*\(7, 3\)"),
        ({**RUN, "bias": "(7,)"}, r"bias is missing, .*\(7,\)"),
        ({**RUN, "network": "X", "weight": "(1,)"}, r"network is Linear, .*X .*\(1 more"),
        ({"network": "Linear", "weight": "(2, 3)"}, r"labels is \('a', 'b'\), .*none"),
    ],
)
def test_of_another_run(tmp_path: Path, run: dict[str, str], message: str) -> None:
    """One line names the file, what differs, and what this run has."""
    path = save(tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(path, run)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_code_is_never_run(tmp_path: Path) -> None:
    """Neither from a pickle nor from an object inside a file of torch.save."""
    trace_file = tmp_path / "proof"
    plain, old, packed = (tmp_path / name for name in ("plain", "old", "packed"))
    plain.write_bytes(pickle.dumps(Bomb(trace_file)))
    torch.save({"x": Bomb(trace_file)}, old, _use_new_zipfile_serialization=False)
    torch.save({"format": 2, "run": RUN, "x": Bomb(trace_file)}, packed)
    for path in (plain, old, packed):
        with pytest.raises(CheckpointError, match=path.name):
            load_checkpoint(path, RUN)
        with pytest.raises(CheckpointError, match=path.name):
            load_weights(path, nn.Linear(2, 2))
    assert not trace_file.exists()
    pickle.loads(plain.read_bytes())  # the object does run code
    assert trace_file.exists()


def test_truncated_file(tmp_path: Path) -> None:
    """At any length."""
    path = save(tmp_path / "net.ckpt")
    whole = path.read_bytes()
    for length in [0, 1, 3, 4, *range(5, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"net\.ckpt"):
            load_checkpoint(path, RUN)


def test_overwritten_in_places(tmp_path: Path) -> None:
    """Foreign bytes anywhere: a CheckpointError or a readable file, never another exception."""
    path = save(tmp_path / "net.ckpt")
    whole = path.read_bytes()
    for place in range(0, len(whole) - 8, 23):
        path.write_bytes(whole[:place] + b"\xff\x00U\x80\x02cos\n"[:8] + whole[place + 8 :])
        with contextlib.suppress(CheckpointError):
            load_checkpoint(path, RUN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "list"),
        ({"model": {}, "epoch": 1}, "format None.* 2"),
        ({"format": 3, "run": RUN}, "format 3.* 2"),
    ],
)
def test_other_content(tmp_path: Path, content: object, message: str) -> None:
    """Files of torch.save that are no checkpoint, or one of another format."""
    torch.save(content, tmp_path / "net.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "net.ckpt", RUN)


def test_missing_file(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(CheckpointError, match=r"none\.ckpt"):
        load_checkpoint(tmp_path / "none.ckpt", RUN)


def test_describe_run() -> None:
    """The class name of the network, every shape, buffers included, and the settings as texts."""
    model = nn.BatchNorm1d(3, affine=False)
    assert describe_run(model, {"peak_lr": 0.1, "sizes": (1, 2)}) == {
        "network": "BatchNorm1d",
        "peak_lr": "0.1",
        "sizes": "(1, 2)",
        "running_mean": "(3,)",
        "running_var": "(3,)",
        "num_batches_tracked": "()",
    }


@pytest.mark.parametrize("inside", [True, False])
def test_load_weights(tmp_path: Path, inside: bool) -> None:
    """From a state dictionary, or the averaged weights of a checkpoint."""
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    weights = source.state_dict()
    path = tmp_path / "weights.pt"
    if inside:
        save_checkpoint(path, {"run": {}, "ema": weights, "model": nn.Linear(3, 2).state_dict()})
    else:
        torch.save(weights, path)
    load_weights(path, target)
    assert torch.equal(target.weight, source.weight)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(4, 2), r"weight is \(2, 4\), .*\(2, 3\)"),
        (nn.Linear(3, 2, bias=False), r"bias is missing, .*\(2,\)"),
        (nn.BatchNorm1d(3), r"weight is \(3,\), .*\(2, 3\)"),
    ],
)
def test_weights_of_another_network(tmp_path: Path, other: nn.Module, message: str) -> None:
    """Refused, and no weight is changed."""
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    target = nn.Linear(3, 2)
    before = target.weight.clone()
    with pytest.raises(CheckpointError, match=message):
        load_weights(tmp_path / "weights.pt", target)
    assert torch.equal(target.weight, before)
