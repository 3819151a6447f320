"""The fusion network: what face and voice networks saw, weighed against each other.

Two presets. `AttentionFusion` weighs two opinions; with one modality missing it says exactly what
the other's network says. `ChannelFusion` is the reference system's second fusion: channel
attention on either branch, then one classifier on both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .face import EMBEDDING_SIZE

NUM_FACES = 8
"""Face embeddings that the device keeps: about a second at the rate it reads them."""


class FacePool(nn.Module):
    """The last faces as one: a mean weighted by a learned score."""

    def __init__(self, size: int = EMBEDDING_SIZE) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, faces: Tensor, face_mask: Tensor) -> Tensor:
        """(N, K, D), (N, K) -> (N, D); zeros where there is no face."""
        score = self.score(faces).squeeze(2) + (face_mask - 1.0) * 1e4
        share = torch.softmax(score, dim=1) * face_mask
        return (faces * share.unsqueeze(2)).sum(dim=1)


class AttentionFusion(nn.Module):
    """A log-linear pool of two opinions, whose weights depend on both.

    Each modality has its own head (the classifier of its network, see `load_heads`). A small
    network reads both embeddings, projected to one width, and gives each modality a weight;
    the weights of those present sum to 1. Two independent witnesses who agree are surer than
    one, so the pooled logits are scaled by a learned number when both are present, and by 1 when
    only one is: then the answer is that of its own network.
    """

    def __init__(
        self,
        num_labels: int = 7,
        face_size: int = EMBEDDING_SIZE,
        voice_size: int = EMBEDDING_SIZE,
        width: int = 32,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.pool = FacePool(face_size)
        self.face_head = nn.Linear(face_size, num_labels)
        self.voice_head = nn.Linear(voice_size, num_labels)
        self.face_width = nn.Linear(face_size, width)
        self.voice_width = nn.Linear(voice_size, width)
        self.dropout = nn.Dropout(dropout)
        self.weigh = nn.Linear(2 * width + 2 * num_labels, 2)
        self.log_scale = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    @torch.no_grad()
    def load_heads(
        self, face: nn.Linear, voice: nn.Linear, face_temperature: float, voice_temperature: float
    ) -> None:
        """Take over the classifiers of the two networks, calibrated. They stay as they are."""
        for head, source, temperature in (
            (self.face_head, face, face_temperature),
            (self.voice_head, voice, voice_temperature),
        ):
            head.weight.copy_(source.weight / temperature)
            head.bias.copy_(source.bias / temperature)
            head.requires_grad_(False)

    def forward(
        self, faces: Tensor, face_mask: Tensor, voice: Tensor, voice_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`faces` (N, K, D), newest last, `face_mask` (N, K), `voice` (N, D), `voice_mask` (N, 1)
        -> logits (N, 7), weights of face and voice (N, 2)."""
        present = torch.cat([face_mask.amax(dim=1, keepdim=True), voice_mask], dim=1)
        face = self.pool(faces, face_mask)
        voice = voice * voice_mask
        opinions = torch.stack([self.face_head(face), self.voice_head(voice)], dim=1)
        sure = torch.log_softmax(opinions, dim=2) * present.unsqueeze(2)
        seen = F.silu(torch.cat([self.face_width(face), self.voice_width(voice)], dim=1))
        seen = torch.cat([self.dropout(seen), sure.exp().flatten(1)], dim=1)
        weights = torch.softmax(self.weigh(seen) + (present - 1.0) * 1e4, dim=1) * present
        scale = 1.0 + (self.log_scale.exp() - 1.0) * present.prod(dim=1, keepdim=True)
        return (sure * weights.unsqueeze(2)).sum(dim=1) * scale, weights


class ChannelAttention(nn.Module):
    """A gate on every channel from its value now and its peak over the last faces
    (after Woo et al. 2018, CBAM: average and maximum through one small network)."""

    def __init__(self, size: int, reduction: int = 8) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(size, size // reduction), nn.ReLU(), nn.Linear(size // reduction, size)
        )

    def forward(self, mean: Tensor, peak: Tensor) -> Tensor:
        return mean * torch.sigmoid(self.gate(mean) + self.gate(peak))


class ChannelFusion(nn.Module):
    """Channel attention on either branch, both side by side, one classifier."""

    def __init__(
        self,
        num_labels: int = 7,
        face_size: int = EMBEDDING_SIZE,
        voice_size: int = EMBEDDING_SIZE,
        width: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.pool = FacePool(face_size)
        self.face_attention = ChannelAttention(face_size)
        self.voice_attention = ChannelAttention(voice_size)
        self.classifier = nn.Sequential(
            nn.Linear(face_size + voice_size, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, num_labels),
        )

    def forward(
        self, faces: Tensor, face_mask: Tensor, voice: Tensor, voice_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `AttentionFusion`; the weights are the shares of the two gated branches' energy."""
        face = self.pool(faces, face_mask)
        peak = (faces * face_mask.unsqueeze(2)).amax(dim=1)
        voice = voice * voice_mask
        face = self.face_attention(face, peak) * face_mask.amax(dim=1, keepdim=True)
        voice = self.voice_attention(voice, voice)
        energy = torch.stack([face.square().mean(dim=1), voice.square().mean(dim=1)], dim=1)
        weights = energy / energy.sum(dim=1, keepdim=True).clamp_min(1e-9)
        return self.classifier(torch.cat([face, voice], dim=1)), weights
