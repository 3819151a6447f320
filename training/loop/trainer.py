"""The training loop: AdamW, one cosine with warm-up, averaged weights, checkpoints, early stopping.

In: a model, a function that yields the batches of an epoch, and a `Schedule`.
Out: the averaged (EMA) model, on the CPU. Killed and started again, a run goes on from its last
checkpoint and ends with the same weights, to the bit on the CPU: each epoch starts its random
numbers anew, so nothing random is carried from one to the next. Under `torchrun` each process
takes its rows of every batch (see `distributed`). With a GPU it computes in 16 bits there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import nn

from ..errors import DivergedError, TrainingError
from .checkpoint import describe_run, load_checkpoint, load_weights, save_checkpoint
from .devices import choose_device
from .distributed import broadcast_object, broadcast_state, join, read_process_group
from .learner import Batch, LossFn, Trainer, make_trainer, train_epoch, validate_epoch
from .schedule import FitRecipe, Schedule, learning_rate
from .tensorboard import TensorBoardLog

__all__ = ["Batch", "RunOptions", "Schedule", "add_recipe_identity", "fit", "learning_rate"]

log = logging.getLogger(__name__)

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
