"""The recipe of the fusion networks.

In: pairs of face and voice of the same moment. Out: a fusion network, and its heads replaced by
those of the networks that ship.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TrainingError
from ..loop import Batch, FitRecipe, RunOptions, add_recipe_identity, fit
from ..models import EMBEDDING_SIZE, AttentionFusion, ChannelFusion

PRESETS = ("attention", "channel")
PAIRS = "pairs.npz"
"""File with the arrays of `Pairs`, by name."""
HEADS = ("face_head", "voice_head", "temperatures", "face_doubt")
"""Parts of `AttentionFusion` that belong to the face and the voice network."""


@dataclass(frozen=True, slots=True)
class FusionRecipe(FitRecipe):
    """Settings of the fusion network."""

    preset: str = "attention"
    num_epochs: int = 40
    batch_size: int = 64
    peak_lr: float = 1e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.98
    label_smoothing: float = 0.0
    modality_dropout: float = 0.15
    """Share of the pairs whose face is masked, and share of those whose voice is."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Faces and voices of N moments, as the preset reads them.

    "attention" is trained on calibrated log-probabilities, D = the number of labels, which may come
    from several networks (those of the folds). "channel" is trained on embeddings, D =
    `EMBEDDING_SIZE`, of the very face and voice network that ship: those of others differ.
    """

    faces: NDArray[np.float32]
    """(N, K, D)."""
    voices: NDArray[np.float32]
    """(N, D)."""
    labels: NDArray[np.int64]
    """(N,)."""


def build_fusion(preset: str, num_labels: int) -> AttentionFusion | ChannelFusion:
    """Build a network of `PRESETS` for `train_fusion`. Raises TrainingError for other names.

    "attention" is trained on class probabilities: its heads are identities on log-probabilities,
    which take the place of embeddings.
    """
    if preset not in PRESETS:
        raise TrainingError(f"fusion preset {preset!r}, allowed: {', '.join(PRESETS)}")
    if preset == "channel":
        return ChannelFusion(num_labels)
    model = AttentionFusion(num_labels, embedding_size=num_labels)
    identity = nn.Linear(num_labels, num_labels)
    identity.load_state_dict({"weight": torch.eye(num_labels), "bias": torch.zeros(num_labels)})
    model.load_heads(identity, identity, 1.0, 1.0)
    return model


def train_fusion(
    pairs: Pairs,
    num_labels: int,
    recipe: FusionRecipe,
    checkpoint: Path | None = None,
    options: RunOptions | None = None,
) -> nn.Module:
    """Train on pairs of speakers held out from the face and the voice network. On their training
    speakers those networks are overconfident, and fusion would rely on that. Raises TrainingError
    for pairs of the other preset."""
    torch.manual_seed(recipe.seed)
    _check_pairs(pairs, recipe.preset, num_labels)
    model = build_fusion(recipe.preset, num_labels)
    schedule = recipe.make_schedule(
        recipe.num_epochs, len(pairs.labels), recipe.peak_lr, recipe.ema_decay
    )

    def batches(epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng((recipe.seed, epoch))
        order = rng.permutation(len(pairs.labels))
        for b in range(schedule.batches_per_epoch):
            index = order[b * recipe.batch_size : (b + 1) * recipe.batch_size]
            dropout = rng.random(len(index))
            faces = torch.from_numpy(pairs.faces[index])
            face_mask = torch.from_numpy(dropout >= recipe.modality_dropout).float()
            voice_mask = torch.from_numpy(dropout < 1 - recipe.modality_dropout).float()
            target = F.one_hot(torch.from_numpy(pairs.labels[index]), num_labels).float()
            inputs = (
                faces,
                face_mask.unsqueeze(1).expand(-1, faces.shape[1]),
                torch.from_numpy(pairs.voices[index]),
                voice_mask.unsqueeze(1),
            )
            yield inputs, target

    def loss(outputs: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        return F.cross_entropy(outputs[0], target, label_smoothing=recipe.label_smoothing)

    options = add_recipe_identity(options, recipe)
    return fit(model, batches, schedule, checkpoint, loss_fn=loss, options=options)


def _check_pairs(pairs: Pairs, preset: str, num_labels: int) -> None:
    wanted, noun = {
        "attention": (num_labels, "log-probabilities of the labels"),
        "channel": (EMBEDDING_SIZE, "embeddings"),
    }.get(preset, (None, ""))
    found = {pairs.faces.shape[-1], pairs.voices.shape[-1]}
    if wanted is not None and found != {wanted}:
        raise TrainingError(
            f"pairs of {' and '.join(map(str, sorted(found)))} values: fusion {preset!r} reads"
            f" {wanted} ({noun})"
        )
    if not set(np.unique(pairs.labels)) <= set(range(num_labels)):
        raise TrainingError(
            f"pairs: labels {np.unique(pairs.labels)}, allowed: 0 to {num_labels - 1}"
        )


def attach_heads(
    trained: AttentionFusion,
    face: nn.Linear,
    voice: nn.Linear,
    face_temperature: float,
    voice_temperature: float,
    face_doubt: float = 1.0,
    *,
    face_groups: Sequence[int] | None = None,
    voice_groups: Sequence[int] | None = None,
) -> AttentionFusion:
    """Return the `trained` network with the heads of the networks that ship, in eval mode. The
    groups are those of `AttentionFusion`."""
    model = AttentionFusion(trained.num_labels, face_groups, voice_groups, face.in_features)
    weights = {k: v for k, v in trained.state_dict().items() if not k.startswith(HEADS)}
    model.load_state_dict({**model.state_dict(), **weights})
    model.load_heads(face, voice, face_temperature, voice_temperature, face_doubt)
    return model.eval()


@torch.no_grad()
def fuse_pairs(
    model: nn.Module,
    pairs: Pairs,
    face: bool = True,
    voice: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits (N, L) and weights (N, 2) with both modalities or one of them."""
    model.eval()
    num = len(pairs.labels)
    logits, weights = model(
        torch.from_numpy(pairs.faces),
        torch.full((num, pairs.faces.shape[1]), float(face)),
        torch.from_numpy(pairs.voices),
        torch.full((num, 1), float(voice)),
    )
    return logits.numpy(), weights.numpy()
