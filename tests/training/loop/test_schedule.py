"""Learning rate, weight decay and weight averaging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from emotion_edge.training.loop.schedule import Schedule, learning_rate, make_optimizer, update_ema


def test_learning_rate() -> None:
    """A linear rise to the peak, half a cosine down, an end near zero."""
    schedule = Schedule(num_epochs=10, batches_per_epoch=20, peak_lr=0.1, warmup=0.1)
    rates = np.array([learning_rate(step, schedule) for step in range(200)])
    np.testing.assert_allclose(rates[:20], 0.1 * np.arange(1, 21) / 20)
    assert rates[20] == pytest.approx(0.1)
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[110] == pytest.approx(0.05)
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize(("num_epochs", "batches_per_epoch"), [(1, 1), (1, 2), (2, 1)])
def test_learning_rate_of_the_shortest_runs(num_epochs: int, batches_per_epoch: int) -> None:
    """Neither a division by zero nor a rate of zero."""
    schedule = Schedule(num_epochs, batches_per_epoch)
    total = num_epochs * batches_per_epoch
    assert all(0 < learning_rate(step, schedule) <= schedule.peak_lr for step in range(total))


def test_only_matrices_are_decayed() -> None:
    """With zero gradients AdamW shrinks the weights by rate times decay, biases and norms not at
    all; its betas are those of the schedule."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[0].bias)
    optimizer = make_optimizer(model, Schedule(1, 1, 0.1, weight_decay=0.5, betas=(0.8, 0.99)))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model[0].weight, torch.full((2, 3), 0.95))
    torch.testing.assert_close(model[0].bias, torch.ones(2))
    torch.testing.assert_close(model[1].weight, torch.ones(2))
    assert all(group["betas"] == (0.8, 0.99) for group in optimizer.param_groups)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (90, 0.91), (10_000, 0.99)])
def test_early_averages_decay_faster(step: int, decay: float) -> None:
    """The decay rises from 0.1 to `ema_decay`; counters are copied."""
    ema, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.zeros_(ema.weight)
    model.num_batches_tracked.fill_(7)
    update_ema(ema, model, step, 0.99)
    torch.testing.assert_close(ema.weight, torch.full((2,), 1 - decay), rtol=0, atol=1e-6)
    assert ema.num_batches_tracked == 7
    assert torch.equal(model.weight, torch.ones(2))
