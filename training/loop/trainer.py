"""The training loop: AdamW, one cosine with warm-up, averaged weights, checkpoints, early stopping.

In: a model, a function that yields the batches of an epoch, and a `Schedule`.
Out: the averaged (EMA) model, on the CPU.

A killed run resumes from its last checkpoint and ends with the same weights, to the bit on the
CPU: each epoch seeds its random numbers anew, so no random state passes from one epoch to the
next. Under `torchrun` each process trains on its rows of every batch (see `distributed`). A GPU
computes in bfloat16 or float16.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import DivergedError, TrainingError
from .checkpoint import describe_run, load_checkpoint, load_initial_weights, save_checkpoint
from .distributed import (
    ProcessGroup,
    average_over_processes,
    broadcast_object,
    broadcast_state,
    choose_device,
    choose_precision,
    join_process_group,
    outputs_on_cpu,
    read_process_group,
    shard_batch,
    to_device,
    wrap_data_parallel,
)
from .options import Batch, DrawInputs, LossFn, RunOptions, Validate
from .schedule import Schedule, learning_rate, make_optimizer, update_ema
from .tensorboard import TensorBoardLog
from .validation import Predictions

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=nn.Module)


def fit(
    model: ModelT,
    batches: Callable[[int], Iterable[Batch]],
    schedule: Schedule,
    checkpoint: Path | None = None,
    validate: Validate | None = None,
    compile_model: bool = False,
    *,
    loss_fn: LossFn | None = None,
    draw_inputs: DrawInputs | None = None,
    options: RunOptions | None = None,
) -> ModelT:
    """Train `model` (its forward returns embedding, logits) and return the averaged copy.

    `batches(epoch)` yields that epoch's batches. They depend on the epoch number and torch's
    random numbers only, so that a resumed run draws the same ones. `validate` scores the averaged
    model, more is better; the score matters only if `schedule.patience` is set. `loss_fn` replaces
    the cross-entropy of the logits for models with other outputs. `draw_inputs` makes the images of
    `RunOptions.num_samples`.

    Raises DivergedError when the loss is not finite, CheckpointError for a checkpoint that cannot
    be used or written, TrainingError for settings that exclude each other.
    """
    options = options or RunOptions()
    if schedule.batches_per_epoch < 1:
        raise TrainingError("there are fewer examples than one batch_size: choose a smaller one")
    if schedule.patience > 0 and validate is None:
        raise TrainingError("patience needs validation data")
    process_group = read_process_group()
    device = choose_device(process_group.local_rank)
    join_process_group(process_group, device)
    settings = {**asdict(schedule), **options.identity}
    del settings["checkpoint_every"]  # has no effect on the weights
    run = describe_run(model, settings)
    # Only the first process needs access to the files.
    resumed = None
    if process_group.is_main:
        resumed = _load_checkpoint(model, run, checkpoint, options.init_from)
    trainer = make_trainer(model, schedule, loss_fn, compile_model, process_group, device)
    resumed = broadcast_object(resumed, process_group, device)
    last_good = "there is no checkpoint yet"
    if resumed is not None:
        trainer.load_state_dict(resumed)
        last_good = f"the last good checkpoint is {checkpoint}, after epoch {trainer.epoch}"
        log.info("resumed %s after epoch %d", checkpoint, trainer.epoch)
    on_epoch = options.on_epoch or (lambda *_: None)
    for epoch, score in enumerate(trainer.scores if process_group.is_main else [], start=1):
        on_epoch(epoch, score)
    with TensorBoardLog(
        options.log_folder if process_group.is_main else None, trainer.epoch + 1
    ) as tensorboard:
        if draw_inputs is not None and options.num_samples > 0:
            batches = _log_samples(batches, draw_inputs, options.num_samples, tensorboard)
        while not trainer.is_over:
            try:
                result = train_epoch(trainer, batches)
            except DivergedError as error:
                raise DivergedError(f"{error}; {last_good}") from error
            trainer.epoch += 1
            trainer.losses.append(result.loss)
            score, curves = validate_epoch(trainer, validate, _list_labels(options))
            trainer.scores.append(score)
            if not process_group.is_main:
                continue
            _report(trainer.epoch, result, score, curves, tensorboard)
            due = trainer.epoch % schedule.checkpoint_every == 0 or trainer.is_over
            if checkpoint is not None and due:
                save_checkpoint(checkpoint, {**trainer.state_dict(), "run": run})
                last_good = f"the last good checkpoint is {checkpoint}, after epoch {trainer.epoch}"
            on_epoch(trainer.epoch, score)
    if trainer.best is not None:
        trainer.ema.load_state_dict(trainer.best)
        log.info("best epoch %d: validation %.4f", trainer.best_epoch, trainer.best_score)
    broadcast_state(trainer.ema, process_group)
    model.cpu()
    return cast("ModelT", trainer.ema.cpu())


def _load_checkpoint(
    model: nn.Module, run: Mapping[str, str], checkpoint: Path | None, init_from: Path | None
) -> dict[str, Any] | None:
    """Return the checkpoint to resume. Without one, load the weights `init_from` into `model`."""
    if checkpoint is not None and checkpoint.exists():
        return load_checkpoint(checkpoint, run)
    if init_from is not None:
        load_initial_weights(init_from, model)
    return None


def _list_labels(options: RunOptions) -> Sequence[str]:
    labels = options.identity.get("labels", ())
    return [str(label) for label in labels] if isinstance(labels, (list, tuple)) else ()


def _log_samples(
    batches: Callable[[int], Iterable[Batch]],
    draw_inputs: DrawInputs,
    num_samples: int,
    tensorboard: TensorBoardLog,
) -> Callable[[int], Iterator[Batch]]:
    """Write the first inputs of each epoch as images while the batches go by."""

    def logged(epoch: int) -> Iterator[Batch]:
        for number, (inputs, target) in enumerate(batches(epoch)):
            if number == 0:
                first = tuple(tensor[:num_samples] for tensor in inputs)
                tensorboard.write_images(epoch + 1, "samples", draw_inputs(first))
            yield inputs, target

    return logged


def _report(
    epoch: int,
    result: EpochResult,
    score: float | None,
    curves: Mapping[str, float],
    tensorboard: TensorBoardLog,
) -> None:
    validation = "" if score is None else f", validation {score:.4f}"
    log.info("epoch %d: loss %.4f%s", epoch, result.loss, validation)
    scores = {} if score is None else {"validation": score}
    tensorboard.write(epoch, {**asdict(result), **scores, **curves})


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Curves of one pass over the data."""

    loss: float
    """Mean over the batches."""
    learning_rate: float
    """Of the last step."""
    examples_per_s: float
    """Of all processes together."""


@dataclass(slots=True)
class Trainer:
    """State of a run between two steps, and the functions that advance it."""

    model: nn.Module
    forward: Callable[..., Any]
    """`model` as the loop calls it: compiled, or with gradients averaged over the processes."""
    ema: nn.Module
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    schedule: Schedule
    loss_fn: LossFn
    process_group: ProcessGroup
    device: torch.device
    epoch: int = 0
    """Number of finished epochs."""
    scores: list[float | None] = field(default_factory=list)
    """Validation score after each epoch."""
    losses: list[float] = field(default_factory=list)
    """Mean loss of each epoch."""
    best_score: float = -math.inf
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None
    """Averaged weights after `best_epoch` epochs; only with early stopping."""

    @property
    def is_over(self) -> bool:
        patience = self.schedule.patience
        stalled = patience > 0 and self.epoch - self.best_epoch >= patience
        return stalled or self.epoch >= self.schedule.num_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "scores": self.scores,
            "losses": self.losses,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.scores = state["epoch"], state["scores"]
        self.losses = state.get("losses", [])
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
    """Start a run with `model` on `device`; every process gets the weights of the first."""
    model.to(device)
    broadcast_state(model, process_group)
    forward = wrap_data_parallel(model, process_group, device)

    def cross_entropy(output: Any, target: Tensor) -> Tensor:
        logits = output if isinstance(output, Tensor) else output[1]
        return F.cross_entropy(logits, target, label_smoothing=schedule.label_smoothing)

    return Trainer(
        model,
        compile_forward(forward) if compile_model else forward,
        deepcopy(model).eval(),
        make_optimizer(model, schedule),
        # Small gradients underflow in float16.
        torch.amp.GradScaler("cuda", enabled=choose_precision(device) == torch.float16),
        schedule,
        loss_fn or cross_entropy,
        process_group,
        device,
    )


def compile_forward(forward: nn.Module) -> Callable[..., Any]:
    """Compile `forward` at its first call. Where that fails, as on a machine without a C++
    compiler, it stays uncompiled, with one warning."""
    from torch._dynamo.exc import BackendCompilerFailed  # takes a second to import

    current: Callable[..., Any] = torch.compile(forward, dynamic=False)

    def call(*inputs: Any) -> Any:
        nonlocal current
        try:
            return current(*inputs)
        except BackendCompilerFailed as error:
            reason = " ".join(str(error.inner_exception).split())[:200]
            log.warning("the network is trained uncompiled, which is slower: %s", reason)
            current = forward
            return current(*inputs)

    return call


def train_epoch(trainer: Trainer, batches: Callable[[int], Iterable[Batch]]) -> EpochResult:
    """Train one pass over the data."""
    schedule, process_group = trainer.schedule, trainer.process_group
    seed = schedule.seed * 1_000_003 + trainer.epoch
    torch.manual_seed(seed)
    if trainer.device.type == "cuda":
        # Every process draws the same batches, on the CPU; dropout differs on each GPU.
        torch.cuda.manual_seed(seed * process_group.size + process_group.rank)
    trainer.model.train()
    total, count, rate, num_examples = 0.0, 0, 0.0, 0
    start_s = time.perf_counter()
    bar = tqdm(
        batches(trainer.epoch),
        total=schedule.batches_per_epoch,
        desc=f"epoch {trainer.epoch + 1}/{schedule.num_epochs}",
        leave=False,
        disable=None if process_group.is_main else True,
    )
    for batch in bar:
        step = trainer.epoch * schedule.batches_per_epoch + count
        count += 1
        num_examples += len(batch[1])
        rate = learning_rate(step, schedule)
        position = f"epoch {trainer.epoch + 1}, batch {count} of {schedule.batches_per_epoch}"
        total += train_batch(trainer, batch, rate, position)
        update_ema(trainer.ema, trainer.model, step, schedule.ema_decay)
    if count != schedule.batches_per_epoch:
        # Otherwise the learning rate and a resumed run are at the wrong step.
        raise TrainingError(
            f"epoch {trainer.epoch + 1} had {count} batches, the schedule has"
            f" {schedule.batches_per_epoch}"
        )
    took_s = time.perf_counter() - start_s
    return EpochResult(total / count, rate, num_examples / took_s)


def train_batch(trainer: Trainer, batch: Batch, rate: float, position: str) -> float:
    """Take one optimization step -> the loss of the whole batch. Raises DivergedError before the
    step if the loss or the gradient is not finite."""
    inputs, target, factor = shard_batch(*batch, trainer.process_group)
    if len(target) == 1 and _has_batch_norm(trainer.model):
        raise TrainingError(
            f"{position} has one example per process: batch normalization needs two, choose a"
            " larger batch_size"
        )
    precision = choose_precision(trainer.device)
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(trainer.device.type, precision, enabled=precision is not None):
        output = trainer.forward(*to_device(inputs, trainer.device))
        loss = trainer.loss_fn(output, to_device(target, trainer.device)) * factor
    mean_loss = average_over_processes(loss.detach(), trainer.process_group)
    if not math.isfinite(mean_loss):
        raise DivergedError(f"the loss is {mean_loss} in {position}")
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.scaler.scale(loss).backward()
    trainer.scaler.unscale_(trainer.optimizer)
    norm = nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.schedule.clip_norm)
    # The scaler skips such a step by itself and lowers its scale.
    if not trainer.scaler.is_enabled() and not math.isfinite(norm.item()):
        raise DivergedError(f"the gradient is {norm.item()} in {position}")
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    return mean_loss


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def validate_epoch(
    trainer: Trainer, validate: Validate | None, labels: Sequence[str] = ()
) -> tuple[float | None, dict[str, float]]:
    """Score the averaged weights and remember the best ones -> score, curves. All processes get the
    same score, the first one the curves."""
    if validate is None:
        return None, {}
    score, curves = math.nan, {}
    if trainer.process_group.is_main:
        with outputs_on_cpu(trainer.ema, trainer.device):
            result = validate(trainer.ema)
        if isinstance(result, Predictions):
            score, curves = result.accuracy, result.list_curves(labels)
        else:
            score = float(result)
    score = float(broadcast_object(score, trainer.process_group, trainer.device))
    if trainer.schedule.patience > 0 and score > trainer.best_score:
        trainer.best_score, trainer.best_epoch = score, trainer.epoch
        trainer.best = {k: v.detach().cpu().clone() for k, v in trainer.ema.state_dict().items()}
    return score, curves
