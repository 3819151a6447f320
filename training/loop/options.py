"""What a run of the training loop is given beside model, data and schedule.

Types of the functions that a recipe passes to the loop, and a run's `RunOptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .schedule import FitRecipe
from .validation import Predictions

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Model inputs, and the target distribution (N, num_labels)."""
LossFn = Callable[[Any, Tensor], Tensor]
"""(model output, target) -> mean loss over the examples."""
Validate = Callable[[nn.Module], "float | Predictions"]
"""Scores a model, more is better. Predictions have their accuracy as score, and curves."""
DrawInputs = Callable[[tuple[Tensor, ...]], Tensor]
"""Model inputs -> images (N, C, H, W), 0..1, C = 1 or 3."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run needs beside model, data and schedule."""

    identity: Mapping[str, object] = field(default_factory=dict)
    """Settings that a checkpoint must share, beside schedule and network: recipe and "labels",
    which also name the curves."""
    init_from: Path | None = None
    """Weights to start from when there is no checkpoint to resume."""
    log_folder: Path | None = None
    """Folder of the TensorBoard curves."""
    on_epoch: Callable[[int, float | None], None] | None = None
    """Called after each epoch with the epochs done and the validation score. After a resume it is
    called for the earlier epochs first. An exception that it raises ends the run."""
    num_samples: int = 0
    """Inputs of each epoch's first batch, as augmented, that are written to `log_folder` as images.
    They show the people of the data set."""


def add_recipe_identity(options: RunOptions | None, recipe: FitRecipe) -> RunOptions:
    """Return `options` whose identity includes every setting of `recipe`."""
    options = options or RunOptions()
    recipe_settings = asdict(recipe)
    del recipe_settings["checkpoint_every"]
    return replace(options, identity={**recipe_settings, **options.identity})
