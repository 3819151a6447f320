"""Hyperparameters of a run and what follows from them.

In: a `Schedule`. Out: the learning rate of each step, the optimizer, the averaged (EMA) weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length of a run and its hyperparameters."""

    num_epochs: int
    batches_per_epoch: int
    peak_lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.06
    """Share of all steps in which the learning rate rises from zero."""
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates for the mean of the gradient and of its square."""
    seed: int = 0
    """Seed of dropout and of batches that draw torch's random numbers."""
    patience: int = 0
    """Stop after this many epochs without a better validation score and return the best weights;
    0 never stops."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always writes one."""


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """Settings that all recipes share, named as the fields of `Schedule`."""

    batch_size: int = 64
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.06
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    patience: int = 0
    checkpoint_every: int = 1
    seed: int = 0

    def make_schedule(
        self, num_epochs: int, num_examples: int, peak_lr: float, ema_decay: float
    ) -> Schedule:
        """Return a schedule whose epochs are the full batches of `num_examples`."""
        shared = {
            name: getattr(self, name) for name in Schedule.__slots__ if name in FitRecipe.__slots__
        }
        num_batches = num_examples // self.batch_size
        return Schedule(num_epochs, num_batches, peak_lr, ema_decay=ema_decay, **shared)


def learning_rate(step: int, schedule: Schedule) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine to zero."""
    total = schedule.num_epochs * schedule.batches_per_epoch
    warm = max(1, round(schedule.warmup * total))
    if step < warm:
        return schedule.peak_lr * (step + 1) / warm
    return schedule.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Make AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) without decay of biases and norms.

    Fused into one operation it takes a third of the time, on the CPU as well.
    """
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.peak_lr, betas=schedule.betas, fused=True)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move `ema` towards `model` after optimization step `step`, in place.

    The decay is smaller in early steps, so that the average is not mostly the random start.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = [
        *zip(ema.parameters(), model.parameters(), strict=True),
        *zip(ema.buffers(), model.buffers(), strict=True),
    ]
    floats = [pair for pair in pairs if pair[0].dtype.is_floating_point]
    # One call for all, as in torch.optim.swa_utils.
    torch._foreach_lerp_([value for value, _ in floats], [live for _, live in floats], 1 - decay)
    for value, live in pairs:
        if not value.dtype.is_floating_point:
            value.copy_(live)
