"""One epoch and one batch: what is refused, and that nothing is learned from what is no number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_edge.training.errors import DivergedError, TrainingError
from emotion_edge.training.loop.trainer import Batch, Schedule, fit


def make_model(num_labels: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_labels))


def make_batches(epoch: int) -> Iterator[Batch]:
    """Five, whose label is the sign of the first number."""
    for _ in range(5):
        x = torch.randn(32, 6)
        yield (x,), F.one_hot((x[:, 0] > 0).long(), 2).float()


def test_gradient_that_is_no_number(tmp_path: Path) -> None:
    """A good loss with a bad slope, in an epoch's last batch: it must not reach the checkpoint."""

    def loss_fn(logits: Tensor, target: Tensor) -> Tensor:
        # The root's slope at zero is infinite.
        return F.cross_entropy(logits, target) + (0 * logits.sum()).sqrt()

    with pytest.raises(DivergedError, match=r"gradient is nan in epoch 1, batch 1 of 1: stopped"):
        fit(
            make_model(),
            lambda epoch: iter([next(make_batches(epoch))]),
            Schedule(1, 1),
            tmp_path / "net.ckpt",
            loss_fn=loss_fn,
        )
    assert not (tmp_path / "net.ckpt").exists()


@pytest.mark.parametrize("network", ["batch norm", "none"])
def test_batch_of_one(network: str) -> None:
    """Refused where the batch is normalised, learned from where it is not."""
    model: nn.Module = make_model() if network == "batch norm" else nn.Linear(6, 2)

    def batches(epoch: int) -> Iterator[Batch]:
        yield (torch.randn(1, 6),), torch.tensor([[1.0, 0.0]])

    if network == "none":
        fit(model, batches, Schedule(1, 1))
    else:
        with pytest.raises(TrainingError, match="epoch 1, batch 1 of 1 has one example"):
            fit(model, batches, Schedule(1, 1))


def test_label_that_never_occurs() -> None:
    """One class absent: it learns the others, and the answer stays a number."""
    model = make_model(num_labels=3)

    def batches(epoch: int) -> Iterator[Batch]:
        for x, target in make_batches(epoch):
            yield x, F.pad(target, (0, 1))

    fitted = fit(model, batches, Schedule(8, 5, 0.02, ema_decay=0.9))
    logits = fitted(torch.randn(50, 6))
    assert logits.isfinite().all()
    assert not (logits.argmax(dim=1) == 2).any()


@pytest.mark.parametrize("num_batches", [0, 4, 6])
def test_epoch_of_another_length(num_batches: int) -> None:
    """The steps would be counted wrongly: refused."""
    batches = [next(make_batches(0))] * num_batches
    with pytest.raises(TrainingError, match=f"epoch 1 had {num_batches} batches, 5 were said"):
        fit(make_model(), lambda epoch: batches, Schedule(3, 5))


def test_seed_changes_the_run() -> None:
    """The same seed the same run, another seed another."""
    fitted = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        fitted.append(fit(make_model(), make_batches, Schedule(3, 5, seed=seed))[-1].weight)
    a, b, c = fitted
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
