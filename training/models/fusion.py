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
from .voice import merge_calm

NUM_EMOTIONS = 8
"""Of RAVDESS, before calm is counted as neutral."""
NUM_FACES = 8
"""Face embeddings that the device keeps, spread over the last second."""


def mean_face(faces: Tensor, face_mask: Tensor) -> Tensor:
    """(N, K, D), (N, K) -> their mean (N, D); zeros where there is no face."""
    shown = face_mask.unsqueeze(2)
    return (faces * shown).sum(dim=1) / shown.sum(dim=1).clamp_min(1.0)


class AttentionFusion(nn.Module):
    """A log-linear pool of two opinions, with weights that depend on both.

    Each modality keeps the head of its own network (`load_heads`). A small network looks at what
    the two say and how sure they are, and gives each a weight; the weights of those present sum
    to 1. Two independent witnesses who agree are surer than one, so the pooled logits are scaled
    by a learned number when both are present, and by 1 when one is: then the answer is exactly
    that of its network.

    It attends to opinions rather than to embeddings: so it can be taught on the opinions of other
    networks about people they never saw (those of the folds), and goes on to serve the one that
    has seen everybody.
    """

    temperatures: Tensor
    face_doubt: Tensor

    def __init__(
        self,
        num_labels: int = 7,
        face_outputs: int = 7,
        voice_outputs: int = 8,
        embedding_size: int = EMBEDDING_SIZE,
        width: int = 16,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.merges = num_labels < NUM_EMOTIONS
        self.face_head = nn.Linear(embedding_size, face_outputs)
        self.voice_head = nn.Linear(embedding_size, voice_outputs)
        self.register_buffer("temperatures", torch.ones(2))
        self.register_buffer("face_doubt", torch.ones(()))
        self.read = nn.Linear(2 * num_labels, width)
        self.dropout = nn.Dropout(dropout)
        self.weigh = nn.Linear(width, 2)
        self.log_scale = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)
        for head in (self.face_head, self.voice_head):
            head.requires_grad_(False)

    @torch.no_grad()
    def load_heads(
        self,
        face: nn.Linear,
        voice: nn.Linear,
        face_temperature: float,
        voice_temperature: float,
        face_doubt: float = 1.0,
    ) -> None:
        """Take over the classifiers of the two networks, and what calibrates each; beside a voice
        the face's temperature is `face_doubt` times higher."""
        self.face_head.load_state_dict(face.state_dict())
        self.voice_head.load_state_dict(voice.state_dict())
        self.temperatures.copy_(torch.tensor([face_temperature, voice_temperature]))
        self.face_doubt.fill_(face_doubt)

    def forward(
        self, faces: Tensor, face_mask: Tensor, voice: Tensor, voice_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`faces` (N, K, D), newest last, `face_mask` (N, K), `voice` (N, D), `voice_mask` (N, 1)
        -> logits (N, num_labels), weights of face and voice (N, 2)."""
        present = torch.cat([face_mask.amax(dim=1, keepdim=True), voice_mask], dim=1)
        doubt = 1.0 + (self.face_doubt - 1.0) * present.prod(dim=1, keepdim=True)
        seen = self._merge(self.face_head(mean_face(faces, face_mask)))
        heard = self._merge(self.voice_head(voice))
        log_probabilities = [seen / (self.temperatures[0] * doubt), heard / self.temperatures[1]]
        return self.pool(
            torch.stack([torch.log_softmax(x, dim=1) for x in log_probabilities], 1), present
        )

    def _merge(self, logits: Tensor) -> Tensor:
        return merge_calm(logits) if self.merges else logits

    def pool(self, log_probabilities: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated log-probabilities of face and voice (N, 2, L), `present` (N, 2) -> logits
        (N, L), weights (N, 2)."""
        sure = log_probabilities * present.unsqueeze(2)
        read = F.silu(self.read((log_probabilities.exp() * present.unsqueeze(2)).flatten(1)))
        score = self.weigh(self.dropout(read))
        weights = torch.softmax(score + (present - 1.0) * 1e4, dim=1) * present
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
        embedding_size: int = EMBEDDING_SIZE,
        width: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.face_attention = ChannelAttention(embedding_size)
        self.voice_attention = ChannelAttention(embedding_size)
        self.classifier = nn.Sequential(
            nn.Linear(2 * embedding_size, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, num_labels),
        )

    def forward(
        self, faces: Tensor, face_mask: Tensor, voice: Tensor, voice_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `AttentionFusion`; the weights are the shares of the two gated branches' energy."""
        face = mean_face(faces, face_mask)
        peak = (faces * face_mask.unsqueeze(2)).amax(dim=1)
        voice = voice * voice_mask
        face = self.face_attention(face, peak) * face_mask.amax(dim=1, keepdim=True)
        voice = self.voice_attention(voice, voice)
        energy = torch.stack([face.square().mean(dim=1), voice.square().mean(dim=1)], dim=1)
        weights = energy / energy.sum(dim=1, keepdim=True).clamp_min(1e-9)
        return self.classifier(torch.cat([face, voice], dim=1)), weights
