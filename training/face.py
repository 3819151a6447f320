"""The recipe of the face network: FER+ faces, crowd votes as targets, small pictures first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..kernels.spec import ImageSpec
from .augment import jitter_faces, scale_pixels
from .data.ferplus import FaceSet, load_ferplus
from .fit import Batch, Schedule, fit
from .models.face import FaceNet, fold_luma

log = logging.getLogger(__name__)

NUM_HELD_OUT = 2_000
"""Training faces kept from training: progress is shown and the temperature is fitted on them."""

RARE_LABEL_SHARE = 0.5
"""0 learns labels as frequent as they were, 1 treats all alike. Chosen on held-out training faces:
accuracy 80.6 -> 79.3 %, mean recall 58.4 -> 64.8 %, fear 10 -> 40 %, disgust 9 -> 27 %."""

MIN_SHARE = 0.01
"""A label rarer than this is not favoured further: too few examples stand behind it."""


@dataclass(frozen=True, slots=True)
class FaceRecipe:
    """Faces seen small cost less: the size grows over the epochs."""

    sizes_px: tuple[int, ...] = (48,) * 6 + (64,) * 7
    """Picture size of each epoch."""
    batch_size: int = 64
    peak_lr: float = 2e-3
    seed: int = 0
    compile_model: bool = True


def split_held_out(faces: FaceSet, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of (training, held-out) faces."""
    order = np.random.default_rng(seed).permutation(len(faces.labels))
    num_held_out = min(NUM_HELD_OUT, len(order) // 5)
    return order[num_held_out:], order[:num_held_out]


def sampling_weights(votes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Draw faces of rare labels more often: by one over the square root of their label's share."""
    share = votes.mean(axis=0) + 1e-6
    weights = (votes / np.sqrt(share)).sum(axis=1).astype(np.float64)
    return weights / weights.sum()


@torch.no_grad()
def favour_rare_labels(model: FaceNet, share: NDArray[np.float64]) -> None:
    """Take part of the labels' frequency in training out of the logits (Menon et al. 2021,
    arXiv:2007.07314), so that fear and disgust are named at all. In place; `share` (7,)."""
    correction = torch.from_numpy(RARE_LABEL_SHARE * np.log(np.maximum(share, MIN_SHARE)))
    model.classifier.bias.sub_(correction.to(model.classifier.bias.dtype))


def prepare_faces(images: NDArray[np.uint8], size_px: int, spec: ImageSpec) -> Tensor:
    """(N, H, W) grey uint8 -> (N, 3, size_px, size_px) as the device would make them."""
    scaled = scale_pixels(torch.from_numpy(images), spec.mean[0], spec.std[0])
    resized = F.interpolate(scaled, size=size_px, mode="bilinear", align_corners=False)
    return resized.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def face_logits(
    model: nn.Module, images: NDArray[np.uint8], size_px: int, spec: ImageSpec
) -> NDArray[np.float32]:
    """Logits (N, 7) of grey faces."""
    model.eval()
    parts = [
        model(prepare_faces(images[start : start + 256], size_px, spec))[1]
        for start in range(0, len(images), 256)
    ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def train_face(root: Path, out: Path, recipe: FaceRecipe, spec: ImageSpec) -> FaceNet:
    """Train on FER+ `train` under `root`; checkpoints and the result go to `out`."""
    torch.manual_seed(recipe.seed)
    faces = load_ferplus(root, "train")
    learn, held_out = split_held_out(faces, recipe.seed)
    weights = sampling_weights(faces.votes[learn])
    schedule = Schedule(len(recipe.sizes_px), len(learn) // recipe.batch_size, recipe.peak_lr)

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng((recipe.seed, epoch))
        chosen = rng.choice(learn, schedule.batches_per_epoch * recipe.batch_size, p=weights)
        for index in chosen.reshape(-1, recipe.batch_size):
            grey = scale_pixels(torch.from_numpy(faces.images[index]), spec.mean[0], spec.std[0])
            picture = jitter_faces(grey, recipe.sizes_px[epoch]).expand(-1, 3, -1, -1)
            yield (
                (picture.contiguous(memory_format=torch.channels_last),),
                torch.from_numpy(faces.votes[index]),
            )

    def validate(size_px: int) -> Callable[[nn.Module], float]:
        known = held_out[faces.labels[held_out] >= 0]

        def accuracy(model: nn.Module) -> float:
            logits = face_logits(model, faces.images[known], size_px, spec)
            return float((logits.argmax(axis=1) == faces.labels[known]).mean())

        return accuracy

    model = FaceNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = fit(
        model,
        batches,
        schedule,
        out / "face.ckpt",
        validate(recipe.sizes_px[-1]),
        recipe.compile_model,
    )
    fold_luma(model)
    favour_rare_labels(model, weights @ faces.votes[learn])
    return model
