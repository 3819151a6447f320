"""The fusion networks: embeddings of faces and voice in, logits and modality weights out.

`AttentionFusion` weighs the class probabilities of the two modalities; without one modality it
returns exactly the class probabilities of the other. `ChannelFusion` is the second fusion of the
reference system: channel attention on either branch, then one classifier on both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .face import EMBEDDING_SIZE
from .merged_labels import check_groups, merge_logits

NUM_FACES = 8
"""Face embeddings in the memory of the device, spread over the last second."""


def mean_face(faces: Tensor, face_mask: Tensor) -> Tensor:
    """Average faces (N, K, D) with mask (N, K) -> (N, D), zeros without a face."""
    mask = face_mask.unsqueeze(2)
    return (faces * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1.0)


class AttentionFusion(nn.Module):
    """Log-linear pool of the class probabilities of face and voice, with weights from both.

    Each modality uses the head of its own network (`load_heads`). A small network maps both sets
    of class probabilities to a weight per modality; the weights of the present modalities sum to 1.
    Agreement of two independent modalities raises the confidence, so the pooled logits are scaled
    by a learned factor when both are present. With one modality the factor is 1, and the output
    equals that of its network.

    Its inputs are class probabilities rather than embeddings, so that it can be trained on the
    predictions of other networks for held-out speakers (those of the folds), and then be used with
    the network that was trained on all speakers.
    """

    temperatures: Tensor
    face_doubt: Tensor

    def __init__(
        self,
        num_labels: int = 7,
        face_groups: Sequence[int] | None = None,
        voice_groups: Sequence[int] | None = None,
        embedding_size: int = EMBEDDING_SIZE,
        width: int = 16,
        dropout: float = 0.2,
    ) -> None:
        """The groups hold the label of each value of the modality's own network, see
        `merge_logits`; None where it has the same labels."""
        super().__init__()
        own = range(num_labels)
        self.num_labels = num_labels
        self.face_groups = check_groups(face_groups or own, num_labels)
        self.voice_groups = check_groups(voice_groups or own, num_labels)
        self.face_head = nn.Linear(embedding_size, len(self.face_groups))
        self.voice_head = nn.Linear(embedding_size, len(self.voice_groups))
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
        """Copy the classifiers of the two networks and their temperatures. With a voice present,
        the temperature of the face is `face_doubt` times higher."""
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
        face_logits = self.face_head(mean_face(faces, face_mask))
        face_logits = merge_logits(face_logits, self.face_groups, self.num_labels)
        voice_logits = merge_logits(self.voice_head(voice), self.voice_groups, self.num_labels)
        scaled = (face_logits / (self.temperatures[0] * doubt), voice_logits / self.temperatures[1])
        log_probabilities = torch.stack([torch.log_softmax(x, dim=1) for x in scaled], 1)
        return self.pool(log_probabilities, present)

    def pool(self, log_probabilities: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Pool calibrated log-probabilities of face and voice (N, 2, L) with `present` (N, 2) ->
        logits (N, L), weights (N, 2)."""
        masked = log_probabilities * present.unsqueeze(2)
        hidden = F.silu(self.read((log_probabilities.exp() * present.unsqueeze(2)).flatten(1)))
        score = self.weigh(self.dropout(hidden))
        weights = torch.softmax(score + (present - 1.0) * 1e4, dim=1) * present
        scale = 1.0 + (self.log_scale.exp() - 1.0) * present.prod(dim=1, keepdim=True)
        return (masked * weights.unsqueeze(2)).sum(dim=1) * scale, weights


class ChannelAttention(nn.Module):
    """Gate on every channel from its mean and its maximum over the last faces
    (after Woo et al. 2018, CBAM: average and maximum through one small network)."""

    def __init__(self, size: int, reduction: int = 8) -> None:
        super().__init__()
        width = max(1, size // reduction)
        self.gate = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, size))

    def forward(self, mean: Tensor, peak: Tensor) -> Tensor:
        return mean * torch.sigmoid(self.gate(mean) + self.gate(peak))


class ChannelFusion(nn.Module):
    """Channel attention on either branch, then one classifier on the joined branches."""

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
