"""How long and how fast to learn: the numbers of a run, its learning rate, its averaged weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn."""

    num_epochs: int
    batches_per_epoch: int
    peak_lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.06
    """Share of all steps in which the rate rises from zero."""
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's memory of the gradient and of its square."""
    seed: int = 0
    """Of dropout and of batches that use torch's random numbers."""
    patience: int = 0
    """Stop when validation has not risen for so many epochs, and return the best; 0 never stops."""
    checkpoint_every: int = 1
    """Epochs from one checkpoint to the next; the last epoch always has one."""


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """What the recipes of all networks can be told; the fields are those of `Schedule`."""

    batch_size: int = 64
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.06
    clip_norm: float = 1.0
    label_smoothing: float = 0.05
    patience: int = 0
    checkpoint_every: int = 1
    seed: int = 0

    def plan(
        self, num_epochs: int, num_examples: int, peak_lr: float, ema_decay: float
    ) -> Schedule:
        """So many epochs of as many full batches as the examples make."""
        same = {
            name: getattr(self, name) for name in Schedule.__slots__ if name in FitRecipe.__slots__
        }
        num_batches = num_examples // self.batch_size
        return Schedule(num_epochs, num_batches, peak_lr, ema_decay=ema_decay, **same)


def learning_rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then half a cosine to zero."""
    total = schedule.num_epochs * schedule.batches_per_epoch
    warm = max(1, round(schedule.warmup * total))
    if step < warm:
        return schedule.peak_lr * (step + 1) / warm
    return schedule.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); biases and norms are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.peak_lr, betas=schedule.betas)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move `ema` towards `model` after optimisation step `step`, in place.

    Early on the average would be mostly the random start: it forgets faster then.
    """
    decay = min(decay, (1 + step) / (10 + step))
    live = model.state_dict()
    for name, value in ema.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(live[name], 1 - decay)
        else:
            value.copy_(live[name])
