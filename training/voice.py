"""The recipe of the voice network: RAVDESS speech, three-second windows, other people to judge."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ..engines.bundle import LABELS
from ..kernels import LogMel, open_preprocessor
from ..kernels.spec import ImageSpec, MelSpec
from .augment import jitter_voice, mask_mel
from .data.ravdess import Clip, load_voice
from .fit import Batch, Schedule, fit
from .models.voice import VoiceNet

log = logging.getLogger(__name__)

WINDOW_EVERY_S = 0.25
"""A recording is judged by the mean of its windows, this far apart, as the device would."""


@dataclass(frozen=True, slots=True)
class VoiceRecipe:
    num_epochs: int = 40
    batch_size: int = 16
    peak_lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class VoiceSet:
    """Recordings in memory: `sounds` float32 (n_i,) each, `labels` int64 (N,), `actors` (N,)."""

    sounds: list[NDArray[np.float32]]
    labels: NDArray[np.int64]
    actors: NDArray[np.int64]

    def of(self, actors: Sequence[int]) -> VoiceSet:
        """Only these people."""
        index = np.flatnonzero(np.isin(self.actors, actors))
        return VoiceSet([self.sounds[i] for i in index], self.labels[index], self.actors[index])


def load_voices(clips: Sequence[Clip], spec: MelSpec) -> VoiceSet:
    bar = tqdm(clips, desc="recordings", leave=False, disable=None)
    return VoiceSet(
        [load_voice(clip.path, spec.sample_rate_hz) for clip in bar],
        np.array([LABELS.index(clip.label) for clip in clips]),
        np.array([clip.actor for clip in clips]),
    )


def open_mel(spec: MelSpec) -> LogMel:
    """The log-mel of the device."""
    return open_preprocessor("auto", ImageSpec(), spec).mel


def window_ends(num_samples: int, spec: MelSpec) -> list[int]:
    """End samples of the windows that judge a recording: from a full window (or the whole
    recording when it is shorter) to its end."""
    step = round(WINDOW_EVERY_S * spec.sample_rate_hz)
    first = min(num_samples, spec.window_samples)
    return list(range(num_samples, first - 1, -step))[::-1]


def mel_windows(
    sound: NDArray[np.float32], ends: Sequence[int], mel: LogMel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows that end at the samples `ends`, rising -> mel (K, 64, 300), mask (K, 300)."""
    mel.restart(0)
    windows, masks = [], []
    done = 0
    for end in ends:
        mel.push(sound[done:end])
        done = end
        window, mask = mel.window()
        windows.append(window[0].copy())
        masks.append(mask[0].copy())
    return np.stack(windows), np.stack(masks)


@torch.no_grad()
def voice_logits(model: nn.Module, voices: VoiceSet, spec: MelSpec) -> NDArray[np.float32]:
    """Log of the mean probability over each recording's windows (N, 7)."""
    model.eval()
    mel = open_mel(spec)
    rows = []
    for sound in voices.sounds:
        windows, masks = mel_windows(sound, window_ends(len(sound), spec), mel)
        logits = model(torch.from_numpy(windows), torch.from_numpy(masks))[1]
        rows.append(F.softmax(logits, dim=1).mean(dim=0).log())
    return np.asarray(torch.stack(rows).numpy(), np.float32)


def train_voice(
    learn: VoiceSet, spec: MelSpec, recipe: VoiceRecipe, checkpoint: Path | None = None
) -> VoiceNet:
    """Train on the recordings of `learn`; nobody else is looked at."""
    torch.manual_seed(recipe.seed)
    mel = open_mel(spec)
    targets = np.eye(len(LABELS), dtype=np.float32)[learn.labels]
    schedule = Schedule(
        recipe.num_epochs,
        len(learn.labels) // recipe.batch_size,
        recipe.peak_lr,
        weight_decay=0.01,
        ema_decay=0.995,
        label_smoothing=0.05,
    )

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(recipe.seed * 10_000 + epoch)
        rng = np.random.default_rng((recipe.seed, epoch))
        order = rng.permutation(len(learn.labels))
        for b in range(schedule.batches_per_epoch):
            index = order[b * recipe.batch_size : (b + 1) * recipe.batch_size]
            windows, masks = [], []
            for i in index:
                sound = jitter_voice(torch.from_numpy(learn.sounds[i]), generator).numpy()
                low = min(len(sound), spec.window_samples // 2)
                end = int(
                    rng.integers(min(low + spec.window_samples // 2, len(sound)), len(sound) + 1)
                )
                start = max(0, end - spec.window_samples)
                window, mask = mel_windows(sound[start:end], [end - start], mel)
                windows.append(window)
                masks.append(mask)
            window_batch = mask_mel(torch.from_numpy(np.concatenate(windows)), generator)
            mask_batch = torch.from_numpy(np.concatenate(masks))
            yield (window_batch, mask_batch), torch.from_numpy(targets[index])

    return fit(VoiceNet(num_mels=spec.num_mels), batches, schedule, checkpoint)
