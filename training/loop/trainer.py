"""The training loop: AdamW, one cosine with warm-up, averaged weights, checkpoints, early stopping.

In: a model, a function that yields the batches of an epoch, and a `Schedule`.
Out: the averaged (EMA) model, on the CPU. Killed and started again, a run goes on from its last
checkpoint and ends with the same weights, to the bit on the CPU: each epoch starts its random
numbers anew, so nothing random is carried from one to the next. Under `torchrun` each process
takes its rows of every batch (see `distributed`). With a GPU it computes in 16 bits there.

One run between two steps: what it has learned so far, and how it learns from a batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import DivergedError, TrainingError
from .checkpoint import describe_run, load_checkpoint, load_weights, save_checkpoint
from .distributed import (
    ProcessGroup,
    average_over_processes,
    broadcast_object,
    broadcast_state,
    choose_device,
    choose_precision,
    join,
    outputs_on_cpu,
    read_process_group,
    shard_batch,
    to_device,
    wrap_data_parallel,
)
from .schedule import FitRecipe, Schedule, learning_rate, make_optimizer, update_ema
from .tensorboard import TensorBoardLog

log = logging.getLogger(__name__)


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


__all__ = ["Batch", "RunOptions", "Schedule", "add_recipe_identity", "fit", "learning_rate"]


ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What surrounds the learning."""

    identity: Mapping[str, object] = field(default_factory=dict)
    """What a checkpoint must agree on, beside schedule and network: the recipe, the labels."""
    init_from: Path | None = None
    """Weights to start from, where there is no checkpoint to go on from."""
    log_folder: Path | None = None
    """For TensorBoard."""
    on_epoch: Callable[[int, float | None], None] | None = None
    """Told the number of epochs done and the validation score, after each epoch, those before a
    checkpoint included; what it raises ends the run."""


def add_recipe_identity(options: RunOptions | None, recipe: FitRecipe) -> RunOptions:
    """`options` by which a checkpoint must agree on the whole `recipe`."""
    options = options or RunOptions()
    recipe_settings = asdict(recipe)
    del recipe_settings["checkpoint_every"]
    return replace(options, identity={**recipe_settings, **options.identity})


def fit(
    model: ModelT,
    batches: Callable[[int], Iterable[Batch]],
    schedule: Schedule,
    checkpoint: Path | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    compile_model: bool = False,
    *,
    loss_fn: LossFn | None = None,
    options: RunOptions | None = None,
) -> ModelT:
    """Train `model` (its forward returns embedding, logits) and return the averaged copy.

    `batches(epoch)` yields that epoch's batches and must depend on the epoch number and torch's
    random numbers alone, so that a resumed run sees what the first would have seen. `validate`
    (more is better) gets the averaged model; it decides only where `schedule.patience` is set.
    `loss_fn` stands in for the cross-entropy of the logits, for models that return other things.

    Raises DivergedError when the loss is not a number, CheckpointError for a checkpoint that
    cannot be used or written, TrainingError for settings that cannot work together.
    """
    options = options or RunOptions()
    if schedule.batches_per_epoch < 1:
        raise TrainingError("there are fewer examples than make one batch: choose a smaller one")
    if schedule.patience > 0 and validate is None:
        raise TrainingError("patience needs somebody to validate on")
    process_group = read_process_group()
    device = choose_device(process_group.local_rank)
    join(process_group, device)
    settings = {**asdict(schedule), **options.identity}
    del settings["checkpoint_every"]  # changes nothing that is learned
    run = describe_run(model, settings)
    # Other machines need not see the first's files.
    resumed = None
    if process_group.is_main:
        resumed = _load_start(model, run, checkpoint, options.init_from)
    learner = make_trainer(model, schedule, loss_fn, compile_model, process_group, device)
    resumed = broadcast_object(resumed, process_group, device)
    kept = "there is no checkpoint yet"
    if resumed is not None:
        learner.load_state_dict(resumed)
        kept = f"the last good checkpoint is {checkpoint}, after epoch {learner.epoch}"
        log.info("resumed %s after epoch %d", checkpoint, learner.epoch)
    on_epoch = options.on_epoch or (lambda *_: None)
    for epoch, score in enumerate(learner.scores if process_group.is_main else [], start=1):
        on_epoch(epoch, score)
    with TensorBoardLog(
        options.log_folder if process_group.is_main else None, learner.epoch + 1
    ) as logbook:
        while not learner.is_over:
            try:
                loss, rate = train_epoch(learner, batches)
            except DivergedError as error:
                raise DivergedError(f"{error}; {kept}") from error
            learner.epoch += 1
            score = validate_epoch(learner, validate)
            learner.scores.append(score)
            if not process_group.is_main:
                continue
            _report(learner, loss, rate, score, logbook)
            due = learner.epoch % schedule.checkpoint_every == 0 or learner.is_over
            if checkpoint is not None and due:
                save_checkpoint(checkpoint, {**learner.state_dict(), "run": run})
                kept = f"the last good checkpoint is {checkpoint}, after epoch {learner.epoch}"
            on_epoch(learner.epoch, score)
    if learner.best is not None:
        learner.ema.load_state_dict(learner.best)
        log.info("the best was epoch %d: %.4f", learner.best_epoch, learner.best_score)
    broadcast_state(learner.ema, process_group)
    model.cpu()
    return cast("ModelT", learner.ema.cpu())


def _load_start(
    model: nn.Module, run: Mapping[str, str], checkpoint: Path | None, init_from: Path | None
) -> dict[str, Any] | None:
    """The checkpoint to go on from; without one, `model` is given the weights to start from."""
    if checkpoint is not None and checkpoint.exists():
        return load_checkpoint(checkpoint, run)
    if init_from is not None:
        load_weights(init_from, model)
    return None


def _report(
    learner: Trainer, loss: float, rate: float, score: float | None, logbook: TensorBoardLog
) -> None:
    shown = "" if score is None else f", validation {score:.4f}"
    log.info("epoch %d: loss %.4f%s", learner.epoch, loss, shown)
    curves = {"loss": loss, "learning_rate": rate}
    logbook.write(learner.epoch, curves if score is None else {**curves, "validation": score})
