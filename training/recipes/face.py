"""The recipe of the face network: FER+ faces, crowd votes as targets, small images first.

In: faces with votes. Out: a `FaceNet`, and its predictions for faces.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...engines.probabilities import calibrate
from ...kernels.spec import ImageSpec
from ..augment import compress_faces, jitter_faces, scale_pixels
from ..loop import Batch, FitRecipe, Predictions, RunOptions, add_recipe_identity, fit
from ..models import FaceNet, fold_luma

log = logging.getLogger(__name__)

RARE_LABEL_SHARE = 0.25
"""Correction for label frequency: 0 none, 1 full. Chosen on held-out faces: accuracy and mean
recall are 85.4 and 72.6 % with 0, 84.9 and 75.1 with 0.25, 83.6 and 80.0 with 0.5."""

MIN_SHARE = 0.01
"""Lowest label frequency in the correction: rarer labels have too few examples."""


Indices = NDArray[np.intp]


class Faces(Protocol):
    """N grey faces."""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, P, P)."""

    @property
    def votes(self) -> NDArray[np.float32]:
        """(N, L), the share of each label."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), -1 without a majority."""


@dataclass(frozen=True, slots=True)
class Round:
    """One warm-up and one cosine. The next round restarts from the weights (Loshchilov and Hutter
    2017)."""

    sizes_px: tuple[tuple[int, ...], ...]
    """For each epoch the image sizes that its batches draw from."""
    peak_lr: float
    ema_decay: float


@dataclass(frozen=True, slots=True)
class FaceRecipe(FitRecipe):
    """Settings of the face network.

    Small images cost less, so the size grows over the epochs. Two epochs with larger sizes keep
    the network from fitting a single size. Training ends on the sizes of the bundle's levels,
    because the network is most accurate on the last ones.
    """

    rounds: tuple[Round, ...] = (
        Round(((48,),) * 6 + ((64,),) * 7, 2e-3, 0.998),
        Round(((64,),) * 11 + ((64, 80, 96, 112),) * 2, 1.5e-3, 0.999),
        Round(((64, 64, 48),) * 13, 8e-4, 0.999),
    )
    dropout: float = 0.3
    max_drop: float = 0.1
    """Stochastic depth of the last block."""
    rare_label_share: float = RARE_LABEL_SHARE
    compile_model: bool = True

    @property
    def trained_px(self) -> tuple[int, ...]:
        """Image sizes of all epochs, ascending."""
        sizes = {px for stage in self.rounds for epoch in stage.sizes_px for px in epoch}
        return tuple(sorted(sizes))


def sampling_weights(votes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return sampling weights of faces: one over the square root of their label's frequency."""
    share = votes.mean(axis=0) + 1e-6
    weights = (votes / np.sqrt(share)).sum(axis=1).astype(np.float64)
    return weights / weights.sum()


@torch.no_grad()
def adjust_for_label_prior(
    model: FaceNet, share: NDArray[np.float64], part: float = RARE_LABEL_SHARE
) -> None:
    """Subtract `part` of the labels' log frequency in training from the logits, in place (Menon et
    al. 2021, arXiv:2007.07314), so that fear and disgust are predicted at all; `share` (L,)."""
    correction = torch.from_numpy(part * np.log(np.maximum(share, MIN_SHARE)))
    model.classifier.bias.sub_(correction.to(model.classifier.bias.dtype))


def prepare_faces(images: NDArray[np.uint8], size_px: int, spec: ImageSpec) -> Tensor:
    """Normalize and resize grey uint8 (N, H, W) -> (N, 3, size_px, size_px), as on the device."""
    scaled = scale_pixels(torch.from_numpy(images), spec.mean[0], spec.std[0])
    resized = F.interpolate(scaled, size=size_px, mode="bilinear", align_corners=False)
    return resized.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def face_logits(
    model: nn.Module, images: NDArray[np.uint8], size_px: int, spec: ImageSpec
) -> NDArray[np.float32]:
    """Return the logits (N, L) of grey faces."""
    model.eval()
    parts = [
        model(prepare_faces(images[start : start + 256], size_px, spec))[1]
        for start in range(0, len(images), 256)
    ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def draw_face_batch(
    faces: Faces, index: Indices, size_px: int, spec: ImageSpec, rng: np.random.Generator
) -> Batch:
    """Augment the faces of `index`. Draws from torch's random numbers as well."""
    compressed = torch.from_numpy(compress_faces(faces.images[index], rng))
    gray = scale_pixels(compressed, spec.mean[0], spec.std[0])
    image = jitter_faces(gray, size_px).expand(-1, 3, -1, -1)
    image = image.contiguous(memory_format=torch.channels_last)
    return (image,), torch.from_numpy(faces.votes[index])


def train_face(
    faces: Faces,
    parts: tuple[Indices, Indices],
    out: Path,
    recipe: FaceRecipe,
    spec: ImageSpec,
    options: RunOptions | None = None,
) -> FaceNet:
    """Train on the first of the `parts` of `faces`, and report the accuracy on the second; `out`
    gets a checkpoint of each round."""
    torch.manual_seed(recipe.seed)
    model = FaceNet(faces.votes.shape[1], recipe.dropout, recipe.max_drop)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for number in range(len(recipe.rounds)):
        model = _train_round(model, faces, parts, out, recipe, number, spec, options)
    votes = faces.votes[parts[0]]
    fold_luma(model)
    adjust_for_label_prior(model, sampling_weights(votes) @ votes, recipe.rare_label_share)
    return model


def held_out_accuracy(
    model: nn.Module, faces: Faces, held_out: Indices, recipe: FaceRecipe, spec: ImageSpec
) -> float:
    """Return the accuracy of a trained network on the faces `held_out`; NaN without any."""
    known = _known(faces, held_out)
    if not len(known):
        return math.nan
    return _predict(model, faces, known, recipe.rounds[-1], spec).accuracy


def _known(faces: Faces, index: Indices) -> Indices:
    return index[faces.labels[index] >= 0]


def _predict(
    model: nn.Module, faces: Faces, index: Indices, last: Round, spec: ImageSpec
) -> Predictions:
    logits = face_logits(model, faces.images[index], min(last.sizes_px[-1]), spec)
    return Predictions(calibrate(logits, 1.0), faces.labels[index])


def _train_round(
    model: FaceNet,
    faces: Faces,
    parts: tuple[Indices, Indices],
    out: Path,
    recipe: FaceRecipe,
    number: int,
    spec: ImageSpec,
    options: RunOptions | None,
) -> FaceNet:
    settings = recipe.rounds[number]
    training, known = parts[0], _known(faces, parts[1])
    weights = sampling_weights(faces.votes[training])
    schedule = recipe.make_schedule(
        len(settings.sizes_px), len(training), settings.peak_lr, settings.ema_decay
    )

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng((recipe.seed, number, epoch))
        chosen = rng.choice(training, schedule.batches_per_epoch * recipe.batch_size, p=weights)
        for index in chosen.reshape(-1, recipe.batch_size):
            yield draw_face_batch(
                faces, index, int(rng.choice(settings.sizes_px[epoch])), spec, rng
            )

    def predict(candidate: nn.Module) -> Predictions:
        return _predict(candidate, faces, known, settings, spec)

    def draw(inputs: tuple[Tensor, ...]) -> Tensor:
        mean, std = (torch.tensor(part).view(-1, 1, 1) for part in (spec.mean, spec.std))
        return (inputs[0] * std + mean).clamp(0, 1)

    checkpoint = out / f"face-round{number + 1}.ckpt"
    options = add_recipe_identity(options, recipe)
    if number > 0:  # starts from the previous round
        options = replace(options, init_from=None)
    if options.log_folder is not None:
        options = replace(options, log_folder=options.log_folder / f"round{number + 1}")
    return fit(
        model,
        batches,
        schedule,
        checkpoint,
        predict if len(known) else None,
        recipe.compile_model,
        draw_inputs=draw,
        options=options,
    )
