"""The recipe of the voice-activity network: scenes of speech and sounds, marked by a teacher.

In: `SceneMaterial` for training and for validation. Out: a `VoiceActivityNet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..loop import Batch, FitRecipe, RunOptions, add_recipe_identity, fit
from ..models import NUM_COLUMNS, STRIDE_COLUMNS, VoiceActivityNet

SPEECH_COLUMNS = 10
"""A value says how much of the last 100 ms is speech."""


@dataclass(frozen=True, slots=True)
class VoiceActivityRecipe(FitRecipe):
    """Settings of the voice-activity network."""

    batch_size: int = 24
    num_epochs: int = 12
    peak_lr: float = 4e-3
    weight_decay: float = 0.01
    ema_decay: float = 0.995
    num_synthetic_clips: int = 2500
    """Recordings made by espeak-ng."""
    num_scenes: int = 7200
    num_validation: int = 300
    channels: tuple[int, int, int] = (16, 32, 40)
    width: int = 56
    late_start: float = 0.3
    """Share of the scenes whose first columns are 0, as before the start of the audio."""
    level_shift: float = 0.4
    """Standard deviation of a random shift of all columns, in units of the log-mel."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """Log-mel of scenes, and where there is speech."""

    columns: NDArray[np.float16]
    """(N, num_mels, T)."""
    marks: NDArray[np.bool_]
    """(N, T)."""


def make_target(marks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of speech in the last 100 ms at each value of the network, from the marks
    (N, T) -> (N, (T - 120) // 4 + 1)."""
    total = np.cumsum(np.pad(marks, ((0, 0), (1, 0))), axis=1, dtype=np.float32)
    share = (total[:, SPEECH_COLUMNS:] - total[:, :-SPEECH_COLUMNS]) / SPEECH_COLUMNS
    return np.ascontiguousarray(share[:, NUM_COLUMNS - SPEECH_COLUMNS :: STRIDE_COLUMNS])


def train_voice_activity(
    scenes: Scenes,
    recipe: VoiceActivityRecipe,
    checkpoint: Path | None = None,
    validation: Scenes | None = None,
    options: RunOptions | None = None,
) -> VoiceActivityNet:
    """Train on `scenes`. The score on `validation` is reported, see `balanced_accuracy`."""
    torch.manual_seed(recipe.seed)
    model = VoiceActivityNet(scenes.columns.shape[1], recipe.channels, recipe.width)
    schedule = recipe.make_schedule(
        recipe.num_epochs, len(scenes.columns), recipe.peak_lr, recipe.ema_decay
    )
    target = make_target(scenes.marks)

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng((recipe.seed, epoch))
        order = rng.permutation(len(scenes.columns))
        for b in range(schedule.batches_per_epoch):
            index = order[b * recipe.batch_size : (b + 1) * recipe.batch_size]
            yield draw_batch(scenes.columns[index], target[index], recipe, rng)

    def score(candidate: nn.Module) -> float:
        assert validation is not None
        return balanced_accuracy(candidate, validation)

    return fit(
        model,
        batches,
        schedule,
        checkpoint,
        score if validation is not None else None,
        loss_fn=speech_loss,
        options=add_recipe_identity(options, recipe),
    )


def draw_batch(
    columns: NDArray[np.float16],
    target: NDArray[np.float32],
    recipe: VoiceActivityRecipe,
    rng: np.random.Generator,
) -> Batch:
    """Shift the level and the start of scenes."""
    mel = columns.astype(np.float32)
    mel += rng.normal(0, recipe.level_shift, (len(mel), 1, 1)).astype(np.float32)
    for row in mel:
        if rng.random() < recipe.late_start:
            row[:, : int(rng.integers(NUM_COLUMNS))] = 0.0
    return (torch.from_numpy(mel),), torch.from_numpy(target)


def speech_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of a share of speech."""
    return F.binary_cross_entropy_with_logits(logits, target)


@torch.no_grad()
def balanced_accuracy(model: nn.Module, scenes: Scenes) -> float:
    """Return the mean recall of moments with and without speech."""
    model.eval()
    target = make_target(scenes.marks)
    rows = [
        model(torch.from_numpy(columns[None].astype(np.float32)))[0].numpy()
        for columns in scenes.columns
    ]
    heard = np.stack(rows) > 0
    spoken, silent = target > 0.9, target < 0.1
    return float((heard[spoken].mean() + (~heard[silent]).mean()) / 2)
