"""The voice-activity network: log-mel columns in, the probability of speech in each moment out.

Convolutions over frequency and time, then dilated convolutions over time, all without padding of
time. So a scene of any length gives a value every 40 ms, and the last `NUM_COLUMNS` columns, which
the device passes, give exactly one: the same as the scene's at that column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_COLUMNS = 120
"""Columns that one value depends on (1.2 s)."""
STRIDE_COLUMNS = 4
"""Columns from one value to the next."""
DILATIONS = (1, 2, 4, 6)


class VoiceActivityNet(nn.Module):
    """Log-mel (N, num_mels, T), T >= `NUM_COLUMNS` -> logits (N, (T - 120) // 4 + 1)."""

    def __init__(
        self, num_mels: int = 64, channels: tuple[int, int, int] = (16, 32, 40), width: int = 56
    ) -> None:
        super().__init__()
        a, b, c = channels
        self.spectral = nn.Sequential(
            nn.Conv2d(1, a, (5, 4), (2, 2), (2, 0), bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, b, (3, 3), (2, 2), (1, 0), bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, c, (3, 3), (2, 1), (1, 0), bias=False),
            nn.BatchNorm2d(c),
            nn.ReLU(),
        )
        self.narrow = nn.Sequential(
            nn.Conv1d(c * num_mels // 8, width, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.temporal = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 3, dilation=dilation, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
            )
            for dilation in DILATIONS
        )
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, mel: Tensor) -> Tensor:
        features = self.narrow(self.spectral(mel.unsqueeze(1)).flatten(1, 2))
        for block, dilation in zip(self.temporal, DILATIONS, strict=True):
            features = features[..., 2 * dilation :] + block(features)
        logits: Tensor = self.head(self.dropout(features))
        return logits.squeeze(1)


class LastProbability(nn.Module):
    """What ships: (1, num_mels, 120) -> (1,), the probability of speech at the last columns."""

    def __init__(self, network: VoiceActivityNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, mel: Tensor) -> tuple[Tensor]:
        return (torch.sigmoid(self.network(mel)[:, -1]),)
