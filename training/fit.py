"""The training loop: AdamW, one cosine with warm-up, averaged weights, a checkpoint every epoch.

In: a model, a function that yields the batches of an epoch, and a `Schedule`.
Out: the averaged (EMA) model. Killed and started again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

log = logging.getLogger(__name__)

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Model inputs, and the target distribution (N, num_labels)."""
ModelT = TypeVar("ModelT", bound=nn.Module)


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


def learning_rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then half a cosine to zero."""
    total = schedule.num_epochs * schedule.batches_per_epoch
    warm = max(1, round(schedule.warmup * total))
    if step < warm:
        return schedule.peak_lr * (step + 1) / warm
    return schedule.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    live = model.state_dict()
    for name, value in ema.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(live[name], 1 - decay)
        else:
            value.copy_(live[name])


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def fit(
    model: ModelT,
    batches: Callable[[int], Iterable[Batch]],
    schedule: Schedule,
    checkpoint: Path | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    compile_model: bool = False,
) -> ModelT:
    """Train `model` (its forward returns embedding, logits) and return the averaged copy.

    `batches(epoch)` yields that epoch's batches and must depend on the epoch number alone, so
    that a resumed run sees what the first would have seen. `validate` is only reported.
    """
    if schedule.batches_per_epoch < 1:
        raise ValueError("there are fewer examples than make one batch")
    optimizer = torch.optim.AdamW(_decay_groups(model, schedule.weight_decay), lr=schedule.peak_lr)
    ema = deepcopy(model).eval()
    first_epoch = 0
    if checkpoint is not None and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]
        log.info("resumed %s after epoch %d", checkpoint, first_epoch)
    forward = torch.compile(model, dynamic=False) if compile_model else model
    for epoch in range(first_epoch, schedule.num_epochs):
        torch.manual_seed(epoch)
        model.train()
        step = epoch * schedule.batches_per_epoch
        total_loss = 0.0
        bar = tqdm(
            batches(epoch),
            total=schedule.batches_per_epoch,
            desc=f"epoch {epoch + 1}/{schedule.num_epochs}",
            leave=False,
            disable=None,
        )
        for inputs, target in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, schedule)
            _, logits = forward(*inputs)
            loss = F.cross_entropy(logits, target, label_smoothing=schedule.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
            optimizer.step()
            # Early on the average would be mostly the random start: let it forget faster.
            _average(ema, model, min(schedule.ema_decay, (1 + step) / (10 + step)))
            total_loss += loss.item()
            step += 1
        score = f", validation {validate(ema):.4f}" if validate else ""
        mean_loss = total_loss / schedule.batches_per_epoch
        log.info("epoch %d: loss %.4f%s", epoch + 1, mean_loss, score)
        if checkpoint is not None:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            partial = checkpoint.with_suffix(".partial")
            torch.save(
                {
                    "model": model.state_dict(),
                    "ema": ema.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1,
                },
                partial,
            )
            partial.replace(checkpoint)
    return ema
