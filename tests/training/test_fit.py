"""The training loop: its learning rate, and that a killed run ends with the very same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emotion_edge.training.fit import Batch, Schedule, fit, learning_rate

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


def test_it_learns() -> None:
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


def test_learning_rate() -> None:
    """Rises in a straight line to its peak, falls by half a cosine, ends near zero."""
    schedule = Schedule(num_epochs=10, batches_per_epoch=20, peak_lr=0.1, warmup=0.1)
    rates = np.array([learning_rate(step, schedule) for step in range(200)])
    np.testing.assert_allclose(rates[:20], 0.1 * np.arange(1, 21) / 20)
    assert rates[20] == pytest.approx(0.1)
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[110] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize(("num_epochs", "batches_per_epoch"), [(1, 1), (1, 2), (2, 1)])
def test_learning_rate_of_the_shortest_runs(num_epochs: int, batches_per_epoch: int) -> None:
    """Neither a division by zero nor a rate of zero from the start."""
    schedule = Schedule(num_epochs, batches_per_epoch)
    total = num_epochs * batches_per_epoch
    assert all(0 < learning_rate(step, schedule) <= schedule.peak_lr for step in range(total))
