"""The recipe of the voice network: RAVDESS speech and its variants, windows of three seconds.

In: recordings. Out: a `VoiceNet`, and its predictions for windows and recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...engines.probabilities import calibrate
from ...kernels.spec import MelSpec
from ..augment import make_noise_only, make_variants, mask_mel
from ..data import mel_windows, open_mel, window_ends
from ..loop import Batch, FitRecipe, Predictions, RunOptions, add_recipe_identity, fit
from ..models import VoiceNet, member_loss

NOISE_ONLY_WINDOWS = 200
"""Number of different noise windows without speech."""


@dataclass(frozen=True, slots=True)
class VoiceRecipe(FitRecipe):
    """Settings of the voice network.

    Chosen on validation actors of two folds: 64.7 % of eight emotions. One network instead of four
    reached 60.4; dropout 0.3, 80 epochs and balanced labels reached 61.3 of 65.4 on one fold; mixup
    and three times the masking converged too slowly.
    """

    num_epochs: int = 120
    batch_size: int = 16
    peak_lr: float = 3e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.995
    num_members: int = 4
    channels: tuple[int, int, int] = (16, 32, 64)
    lstm_size: int = 64
    dropout: float = 0.2
    num_variants: int = 10
    """Variants of each recording, itself included."""
    crop_frames: int = 200
    """Columns of a training window, a random part of the window of the device."""
    mixup: float = 0.0
    """Beta(mixup, mixup) share of a second recording (Zhang et al. 2018); 0 for none."""
    noise_only: float = 0.06
    """Share of windows without speech, whose target is the uniform distribution."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Training data of recordings."""

    variants: list[list[NDArray[np.float16]]]
    """Log-mel (num_mels, T) of each recording and its variants."""
    targets: NDArray[np.float32]
    """(N, num_labels), one-hot."""
    noise_only: list[NDArray[np.float16]]
    """Log-mel windows without speech."""

    def select(self, index: NDArray[np.intp]) -> Speech:
        """Return the recordings `index`."""
        return Speech([self.variants[i] for i in index], self.targets[index], self.noise_only)


@dataclass(frozen=True, slots=True)
class HeldOutSpeech:
    """Recordings of other speakers."""

    audio_clips: Sequence[NDArray[np.float32]]
    targets: NDArray[np.int64]
    """(N,), column of `Speech.targets`."""


def prepare_speech(
    audio_clips: Sequence[NDArray[np.float32]],
    targets: NDArray[np.int64],
    num_labels: int,
    noises: Sequence[NDArray[np.float32]],
    spec: MelSpec,
    recipe: VoiceRecipe,
) -> Speech:
    """Make the training data of recordings with label indices `targets` (N,). It serves all folds,
    because recordings are independent."""
    return Speech(
        make_variants(audio_clips, noises, recipe.num_variants, spec, recipe.seed),
        np.eye(num_labels, dtype=np.float32)[targets],
        make_noise_only(noises, NOISE_ONLY_WINDOWS, spec, recipe.seed),
    )


@dataclass(frozen=True, slots=True)
class WindowPredictions:
    """Outputs of a network for W windows of N recordings."""

    embeddings: NDArray[np.float32]
    """(W, 256)."""
    logits: NDArray[np.float32]
    """(W, num_labels)."""
    recording_index: NDArray[np.int64]
    """Recording of each window (W,)."""

    def mean(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average probabilities of windows (W, L) -> of recordings (N, L)."""
        total = np.zeros((int(self.recording_index.max()) + 1, probabilities.shape[1]))
        np.add.at(total, self.recording_index, probabilities)
        return np.asarray(total / np.bincount(self.recording_index)[:, None])


@torch.no_grad()
def predict_windows(
    model: nn.Module, audio_clips: Sequence[NDArray[np.float32]], spec: MelSpec
) -> WindowPredictions:
    """Run `model` on every window of every recording."""
    model.eval()
    mel = open_mel(spec)
    embeddings, logits, recording_index = [], [], []
    for number, audio in enumerate(audio_clips):
        windows, masks = mel_windows(audio, window_ends(len(audio), spec), mel)
        embedding, window_logits = model(torch.from_numpy(windows), torch.from_numpy(masks))
        embeddings.append(embedding.numpy())
        logits.append(window_logits.numpy())
        recording_index += [number] * len(windows)
    return WindowPredictions(
        np.concatenate(embeddings), np.concatenate(logits), np.array(recording_index)
    )


def _crop(
    mel: NDArray[np.float16], num_frames: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Crop a recording at a random end, right-aligned as on the device -> (num_mels, num_frames),
    mask (num_frames,)."""
    length = mel.shape[1]
    end = int(rng.integers(min(length, num_frames), length + 1))
    columns = mel[:, max(0, end - num_frames) : end]
    window = np.zeros((mel.shape[0], num_frames), np.float32)
    window[:, num_frames - columns.shape[1] :] = columns
    mask = np.zeros(num_frames, np.float32)
    mask[num_frames - columns.shape[1] :] = 1.0
    return window, mask


def _mix(mel: Tensor, target: Tensor, alpha: float, rng: np.random.Generator) -> Batch:
    """Mix each window with another one, and their targets, by a random share."""
    share = torch.from_numpy(rng.beta(alpha, alpha, len(mel))).float()
    share = torch.maximum(share, 1 - share)
    other = torch.from_numpy(rng.permutation(len(mel)))
    of_mel, of_target = share[:, None, None], share[:, None]
    mixed = of_mel * mel + (1 - of_mel) * mel[other]
    return (mixed,), of_target * target + (1 - of_target) * target[other]


def draw_batch(
    speech: Speech, index: NDArray[np.intp], recipe: VoiceRecipe, rng: np.random.Generator
) -> Batch:
    """Draw one variant of each recording of `index`; some are replaced by noise without speech."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    windows, masks, targets = [], [], []
    for i in index:
        is_noise = bool(speech.noise_only) and rng.random() < recipe.noise_only
        pool = speech.noise_only if is_noise else speech.variants[i]
        window, mask = _crop(pool[int(rng.integers(len(pool)))], recipe.crop_frames, rng)
        windows.append(window)
        masks.append(mask)
        num_labels = speech.targets.shape[1]
        targets.append(np.full(num_labels, 1 / num_labels) if is_noise else speech.targets[i])
    mel, mask_batch = torch.from_numpy(np.stack(windows)), torch.from_numpy(np.stack(masks))
    target = torch.from_numpy(np.stack(targets).astype(np.float32))
    if recipe.mixup > 0:
        (mel,), target = _mix(mel, target, recipe.mixup, rng)
    return (mask_mel(mel, generator), mask_batch), target


def build_voice(recipe: VoiceRecipe, num_labels: int, spec: MelSpec) -> VoiceNet:
    """Build the untrained network."""
    return VoiceNet(
        num_labels,
        spec.num_mels,
        recipe.num_members,
        recipe.channels,
        recipe.lstm_size,
        recipe.dropout,
    )


def train_voice(
    speech: Speech,
    spec: MelSpec,
    recipe: VoiceRecipe,
    checkpoint: Path | None = None,
    validation: HeldOutSpeech | None = None,
    options: RunOptions | None = None,
) -> VoiceNet:
    """Train on `speech`. The accuracy on `validation` is reported, and stops the run if the recipe
    has a patience."""
    torch.manual_seed(recipe.seed)
    model = build_voice(recipe, speech.targets.shape[1], spec)
    schedule = recipe.make_schedule(
        recipe.num_epochs, len(speech.targets), recipe.peak_lr, recipe.ema_decay
    )

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng((recipe.seed, epoch))
        order = rng.permutation(len(speech.targets))
        for b in range(schedule.batches_per_epoch):
            index = order[b * recipe.batch_size : (b + 1) * recipe.batch_size]
            yield draw_batch(speech, index, recipe, rng)

    def predict(candidate: nn.Module) -> Predictions:
        assert validation is not None
        return _predict_speech(candidate, validation, spec)

    return fit(
        model,
        batches,
        schedule,
        checkpoint,
        predict if validation is not None else None,
        loss_fn=member_loss(recipe.label_smoothing),
        draw_inputs=draw_windows,
        options=add_recipe_identity(options, recipe),
    )


def held_out_voice_accuracy(model: nn.Module, validation: HeldOutSpeech, spec: MelSpec) -> float:
    """Return the accuracy of a network on recordings."""
    return _predict_speech(model, validation, spec).accuracy


def _predict_speech(model: nn.Module, validation: HeldOutSpeech, spec: MelSpec) -> Predictions:
    windows = predict_windows(model, validation.audio_clips, spec)
    return Predictions(windows.mean(calibrate(windows.logits, 1.0)), validation.targets)


def draw_windows(inputs: tuple[Tensor, ...]) -> Tensor:
    """Draw log-mel windows (N, num_mels, T) as images (N, 1, num_mels, T), 0..1 from the least to
    the greatest value of all; low frequencies are at the bottom."""
    mel = inputs[0].flip(1).unsqueeze(1)
    low, high = mel.min(), mel.max()
    return (mel - low) / (high - low).clamp_min(1e-6)
