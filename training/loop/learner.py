"""One run between two steps: what it has learned so far, and how it learns from a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import DivergedError, TrainingError
from .devices import choose_precision, outputs_on_cpu, to_device
from .distributed import (
    ProcessGroup,
    average_over_processes,
    broadcast_object,
    broadcast_state,
    shard_batch,
    wrap_data_parallel,
)
from .schedule import Schedule, learning_rate, make_optimizer, update_ema

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Model inputs, and the target distribution (N, num_labels)."""
LossFn = Callable[[Any, Tensor], Tensor]
"""(what the model returned, target) -> the mean loss over the examples."""


@dataclass(slots=True)
class Trainer:
    """The state of a run."""

    model: nn.Module
    forward: Callable[..., Any]
    """`model` as it is called: compiled, or with gradients averaged over processes."""
    ema: nn.Module
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    schedule: Schedule
    loss_fn: LossFn
    process_group: ProcessGroup
    device: torch.device
    epoch: int = 0
    """Epochs done."""
    scores: list[float | None] = field(default_factory=list)
    """Validation after each of them."""
    best_score: float = -math.inf
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None
    """The averaged weights after `best_epoch` epochs; kept only for early stopping."""

    @property
    def is_over(self) -> bool:
        patience = self.schedule.patience
        stalled = patience > 0 and self.epoch - self.best_epoch >= patience
        return stalled or self.epoch >= self.schedule.num_epochs

    def state_dict(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "scores": self.scores,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be where `state_dict` was."""
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.scores = state["epoch"], state["scores"]
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.best = state["best"]


def make_trainer(
    model: nn.Module,
    schedule: Schedule,
    loss_fn: LossFn | None,
    compile_model: bool,
    process_group: ProcessGroup,
    device: torch.device,
) -> Trainer:
    """A run at its start, `model` on `device`; all processes begin with the first one's weights."""
    model.to(device)
    broadcast_state(model, process_group)
    forward = wrap_data_parallel(model, process_group, device)

    def cross_entropy(output: Any, target: Tensor) -> Tensor:
        logits = output if isinstance(output, Tensor) else output[1]
        return F.cross_entropy(logits, target, label_smoothing=schedule.label_smoothing)

    return Trainer(
        model,
        torch.compile(forward, dynamic=False) if compile_model else forward,
        deepcopy(model).eval(),
        make_optimizer(model, schedule),
        # float16 alone is too narrow for small gradients.
        torch.amp.GradScaler("cuda", enabled=choose_precision(device) == torch.float16),
        schedule,
        loss_fn or cross_entropy,
        process_group,
        device,
    )


def train_epoch(learner: Trainer, batches: Callable[[int], Iterable[Batch]]) -> tuple[float, float]:
    """One pass over the data -> mean loss, last learning rate."""
    schedule, process_group = learner.schedule, learner.process_group
    seed = schedule.seed * 1_000_003 + learner.epoch
    torch.manual_seed(seed)
    if learner.device.type == "cuda":
        # Batches are drawn on the CPU, alike in all processes; dropout need not be.
        torch.cuda.manual_seed(seed * process_group.size + process_group.rank)
    learner.model.train()
    total, count, rate = 0.0, 0, 0.0
    bar = tqdm(
        batches(learner.epoch),
        total=schedule.batches_per_epoch,
        desc=f"epoch {learner.epoch + 1}/{schedule.num_epochs}",
        leave=False,
        disable=None if process_group.is_main else True,
    )
    for batch in bar:
        step = learner.epoch * schedule.batches_per_epoch + count
        count += 1
        rate = learning_rate(step, schedule)
        place = f"epoch {learner.epoch + 1}, batch {count} of {schedule.batches_per_epoch}"
        total += train_batch(learner, batch, rate, place)
        update_ema(learner.ema, learner.model, step, schedule.ema_decay)
    if count != schedule.batches_per_epoch:
        # The learning rate and a resumed run would be at the wrong step.
        raise TrainingError(
            f"epoch {learner.epoch + 1} had {count} batches, {schedule.batches_per_epoch} were said"
        )
    return total / count, rate


def train_batch(learner: Trainer, batch: Batch, rate: float, place: str) -> float:
    """One step -> the loss of the whole batch. Raises DivergedError before anything is learned
    from a loss or a gradient that is not a number."""
    inputs, target, factor = shard_batch(*batch, learner.process_group)
    if len(target) == 1 and _has_batch_norm(learner.model):
        raise TrainingError(
            f"{place} has one example for a process: batch normalisation needs two, choose a"
            " larger batch_size"
        )
    precision = choose_precision(learner.device)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(learner.device.type, precision, enabled=precision is not None):
        output = learner.forward(*to_device(inputs, learner.device))
        loss = learner.loss_fn(output, to_device(target, learner.device)) * factor
    mean_loss = average_over_processes(loss.detach(), learner.process_group)
    if not math.isfinite(mean_loss):
        raise DivergedError(f"the loss is {mean_loss} in {place}: stopped")
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward()
    learner.scaler.unscale_(learner.optimizer)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), learner.schedule.clip_norm)
    # The scaler leaves out such a step by itself and tries again with smaller gradients.
    if not learner.scaler.is_enabled() and not math.isfinite(norm.item()):
        raise DivergedError(f"the gradient is {norm.item()} in {place}: stopped")
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return mean_loss


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def validate_epoch(learner: Trainer, validate: Callable[[nn.Module], float] | None) -> float | None:
    """The score of the averaged weights, alike in all processes; keeps the best of them."""
    if validate is None:
        return None
    score = math.nan
    if learner.process_group.is_main:
        with outputs_on_cpu(learner.ema, learner.device):
            score = float(validate(learner.ema))
    score = float(broadcast_object(score, learner.process_group, learner.device))
    if learner.schedule.patience > 0 and score > learner.best_score:
        learner.best_score, learner.best_epoch = score, learner.epoch
        learner.best = {k: v.detach().cpu().clone() for k, v in learner.ema.state_dict().items()}
    return score
