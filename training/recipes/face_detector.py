"""The recipe of the face detector.

In: faces with labels, pictures without faces. Out: a `FaceDetectorNet`. Scenes are rendered while
it trains, each of them once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ..augment import (
    FACE,
    ExposureSpec,
    FaceSceneMaterial,
    FaceSceneSpec,
    expose,
    render_face_scene,
)
from ..loop import Batch, FitRecipe, RunOptions, add_recipe_identity, fit
from ..models import STRIDES, FaceDetectorNet, Predictions, cell_centres

log = logging.getLogger(__name__)

Gray = NDArray[np.uint8]
MINING_WIDTHS_PX = (320, 160)
MINING_SCORE = 0.3
LEVEL_SIDES_PX = ((0.0, 36.0), (36.0, 84.0), (84.0, 1e9))
"""Faces that each grid detects: a face is four or five of its cells wide at most."""
OVERLAP = 1.5
"""Faces this much outside of a grid's range are ignored there, not negatives."""
BOX_WEIGHT = 2.0
LEAST_QUALITY = 0.5
"""Score that a cell of a face should give even if its box is wrong: a small face is a face."""
FOCUS = 2.0
"""Exponent of the quality focal loss."""


@dataclass(frozen=True, slots=True)
class DetectorRound:
    """One warm-up and one cosine. From the second on, a share of the backgrounds is such in which
    the network of the round before saw a face."""

    num_epochs: int
    peak_lr: float
    score_weight: float = 2.0
    landmark_weight: float = 40.0
    """Weights of parts of the loss, beside `BOX_WEIGHT`."""
    hard_share: float = 0.15
    """Share of scenes on such a background."""
    scene: FaceSceneSpec | None = None
    """Scenes of this round; None: those of the run."""
    landmark_beta: float = 0.25
    """Error up to which the loss of landmarks is quadratic, in sides. With a small one the network
    predicts the median, an upright head, until it is sure of the tilt, and stays there."""


@dataclass(frozen=True, slots=True)
class DetectorRecipe(FitRecipe):
    """Settings of a run."""

    batch_size: int = 32
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    rounds: tuple[DetectorRound, ...] = (
        DetectorRound(12, 4e-3, score_weight=1.0, landmark_weight=4.0, landmark_beta=0.05),
        DetectorRound(34, 4e-3),
        DetectorRound(20, 1.5e-3, hard_share=0.35),
        # More of what the network missed after three rounds.
        DetectorRound(
            30,
            2.5e-3,
            hard_share=0.25,
            scene=FaceSceneSpec(small=0.30, cover=0.32, squeeze=0.35),
        ),
    )
    scenes_per_epoch: int = 4800
    sizes_px: tuple[int, ...] = (160, 160, 160, 224, 320)
    """Sides of the scenes of a batch; larger scenes are fewer."""
    num_workers: int = 2


@dataclass(frozen=True, slots=True)
class Targets:
    """What each of N cells of B pictures should say."""

    is_face: Tensor
    """(B, N) bool."""
    counts: Tensor
    """(B, N) bool: False where a cell may say anything."""
    labels: Tensor
    """(B, N, 13) of the face of the cell, anything where there is none."""


def assign_cells(labels: Tensor, height: int, width: int) -> Targets:
    """Assign the faces (B, K, 14) of pictures to cells.

    A face belongs to the cells near its centre in the grid for its size; where faces compete, the
    nearest wins. Cells near the centre in a neighbouring grid are ignored, and so is all under a
    face that is too small or cut off.
    """
    centres, low, high, reach = _describe_cells(height, width, labels.device)
    offset = centres[None, :, None] - labels[:, None, :, :2]  # (B, N, K, 2)
    distance = offset.abs().amax(-1)
    side = labels[:, None, :, 2]
    kind = labels[:, None, :, 13]
    within = distance < torch.minimum(reach[None, :, None], (side * 0.35).clamp(min=5.0))
    fits = (side >= low[None, :, None]) & (side < high[None, :, None])
    nearly = (side >= low[None, :, None] / OVERLAP) & (side < high[None, :, None] * OVERLAP)
    positive = within & fits & (kind == FACE)
    around = distance < side * 0.3
    ignored = ((kind == FACE) & around & nearly) | ((kind < 0) & (distance < side * 0.7))
    nearest = torch.where(positive, distance / side.clamp(min=1), torch.inf).argmin(-1)
    chosen = torch.gather(labels, 1, nearest[..., None].expand(-1, -1, labels.shape[-1]))
    is_face = positive.any(-1)
    return Targets(is_face, is_face | ~ignored.any(-1), chosen[..., :13])


def _describe_cells(
    height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre, smallest and largest face, and reach of all cells."""
    parts: list[tuple[Tensor, ...]] = []
    for stride, (low, high) in zip(STRIDES, LEVEL_SIDES_PX, strict=True):
        centres = cell_centres(height // stride, width // stride, stride, device)
        num = len(centres)
        values = (torch.full((num,), v, device=device) for v in (low, high, stride * 1.25))
        parts.append((centres, *values))
    centres, low_side, high_side, reach = (torch.cat(p) for p in zip(*parts, strict=True))
    return centres, low_side, high_side, reach


def detection_loss(found: Predictions, labels: Tensor, weights: DetectorRound) -> Tensor:
    """Return the loss: quality focal loss of the score (Li et al. 2020, arXiv:2006.04388), distance
    IoU of the square (Zheng et al. 2020, arXiv:1911.08287), smooth L1 of the landmarks."""
    targets = assign_cells(labels, *found.size_px)
    positive = targets.is_face
    wanted = targets.labels[positive]
    overlap, distance = _compare_squares(found.boxes[positive], wanted[:, :3])
    quality = torch.zeros_like(found.logits)
    quality[positive] = LEAST_QUALITY + (1 - LEAST_QUALITY) * overlap.detach().clamp(0, 1)
    error = (torch.sigmoid(found.logits) - quality).abs()
    entropy = functional.binary_cross_entropy_with_logits(found.logits, quality, reduction="none")
    num_faces = positive.sum().clamp(min=len(labels))
    score = (entropy * error**FOCUS * targets.counts).sum() / num_faces
    box = (1 - overlap + distance).sum() / num_faces
    side = wanted[:, 2:3]
    away = (found.landmarks[positive] - wanted[:, 3:]) / side
    landmark = (
        functional.smooth_l1_loss(
            away, torch.zeros_like(away), beta=weights.landmark_beta, reduction="none"
        )
        .mean(1)
        .sum()
        / num_faces
    )
    return weights.score_weight * score + BOX_WEIGHT * box + weights.landmark_weight * landmark


def _compare_squares(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection over union of squares (N, 3), and the squared distance of their centres
    over the squared diagonal of both."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    shared = (high - low).clamp(min=0).prod(1)
    union = first[:, 2] ** 2 + second[:, 2] ** 2 - shared
    low = torch.minimum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.maximum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    diagonal = ((high - low) ** 2).sum(1)
    apart = ((first[:, :2] - second[:, :2]) ** 2).sum(1)
    return shared / union, apart / diagonal


class SceneBatches(Dataset[tuple[NDArray[np.uint8], NDArray[np.float32]]]):
    """The batches of one epoch. Each is rendered from its own random numbers."""

    def __init__(
        self,
        material: FaceSceneMaterial,
        scene: FaceSceneSpec,
        exposure: ExposureSpec,
        recipe: DetectorRecipe,
        seed: tuple[int, ...],
    ) -> None:
        self._material, self._scene, self._exposure = material, scene, exposure
        self._recipe, self._seed = recipe, seed

    def __len__(self) -> int:
        return self._recipe.scenes_per_epoch // self._recipe.batch_size

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        rng = np.random.default_rng((*self._seed, index))
        size = int(rng.choice(self._recipe.sizes_px))
        spec = replace(self._scene, size_px=size)
        count = max(2, round(self._recipe.batch_size * (min(self._recipe.sizes_px) / size) ** 2))
        scenes = [render_face_scene(self._material, spec, rng) for _ in range(count)]
        images = [expose(scene.image, self._exposure, rng) for scene in scenes]
        return np.stack(images)[:, None], np.stack([scene.labels for scene in scenes])


def train_detector(
    material: FaceSceneMaterial,
    out: Path,
    recipe: DetectorRecipe,
    scene: FaceSceneSpec | None = None,
    exposure: ExposureSpec | None = None,
    options: RunOptions | None = None,
) -> FaceDetectorNet:
    """Train on scenes of `material`; `out` gets the checkpoint of each round."""
    torch.manual_seed(recipe.seed)
    model = FaceDetectorNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for number, settings in enumerate(recipe.rounds):
        if number > 0:
            hard = mine_backgrounds(model, material.backgrounds)
            log.info("round %d: %d backgrounds look like faces", number + 1, len(hard))
            material = replace(material, hard_backgrounds=hard)
        spec = replace(settings.scene or scene or FaceSceneSpec(), hard=settings.hard_share)
        rendered = (material, spec, exposure or ExposureSpec(), recipe)
        model = _train_round(model, out, number, settings, rendered, options)
    return model


def _train_round(
    model: FaceDetectorNet,
    out: Path,
    number: int,
    settings: DetectorRound,
    rendered: tuple[FaceSceneMaterial, FaceSceneSpec, ExposureSpec, DetectorRecipe],
    options: RunOptions | None,
) -> FaceDetectorNet:
    recipe = rendered[-1]
    schedule = recipe.make_schedule(
        settings.num_epochs, recipe.scenes_per_epoch, settings.peak_lr, recipe.ema_decay
    )

    def batches(epoch: int) -> Iterator[Batch]:
        loader = DataLoader(
            SceneBatches(*rendered, (recipe.seed, number, epoch)),
            batch_size=None,
            num_workers=recipe.num_workers,
            generator=torch.Generator(),  # the loader draws a seed, which is not used
        )
        for images, labels in loader:
            yield (images.float(),), labels

    def loss(found: Predictions, labels: Tensor) -> Tensor:
        return detection_loss(found, labels, settings)

    options = add_recipe_identity(options, recipe)
    if number > 0:  # starts from the previous round
        options = replace(options, init_from=None)
    checkpoint = out / f"face-detector-round{number + 1}.ckpt"
    return fit(model, batches, schedule, checkpoint, loss_fn=loss, options=options)


@torch.no_grad()
def mine_backgrounds(model: FaceDetectorNet, pictures: Sequence[Gray]) -> list[Gray]:
    """Return the parts of pictures without faces in which the network sees one."""
    model.eval()
    found: list[Gray] = []
    for picture in pictures:
        for width in MINING_WIDTHS_PX:
            height = max(1, round(picture.shape[0] * width / picture.shape[1]))
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            rows, columns = (-(-n // 32) * 32 for n in (height, width))
            padded = cv2.copyMakeBorder(
                small, 0, rows - height, 0, columns - width, cv2.BORDER_REPLICATE
            )
            output = model(torch.from_numpy(padded[None, None]).float())
            best = int(output.logits[0].argmax())
            if float(torch.sigmoid(output.logits[0, best])) < MINING_SCORE:
                continue
            x, y, side = (float(v) * picture.shape[1] / width for v in output.boxes[0, best])
            half = max(48, round(side * 1.5))
            left, top = max(0, round(x) - half), max(0, round(y) - half)
            part = picture[top : top + 2 * half, left : left + 2 * half]
            if min(part.shape) >= 64:
                found.append(np.ascontiguousarray(part))
    return found
