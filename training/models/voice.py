"""The voice network: three seconds of log-mel in, an embedding and logits out.

It is an ensemble of small networks of one shape. Trained from different initial weights on few
speakers, they make different errors, and their mean makes fewer. Together they cost no more than
one network of the same total size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet import conv_norm
from .face import EMBEDDING_SIZE
from .members import MembersClassifier

TIME_STRIDE = 8
"""Log-mel columns per step of the LSTM: 80 ms."""


class VoiceMember(nn.Module):
    """CNN that pools over frequency and little over time, bidirectional LSTM, attentive pooling."""

    def __init__(
        self,
        size: int,
        num_mels: int = 64,
        channels: tuple[int, int, int] = (16, 32, 64),
        lstm_size: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        a, b, c = channels
        self.cnn = nn.Sequential(
            conv_norm(1, a, 5, stride=2),
            nn.MaxPool2d(2),
            conv_norm(a, b, 3),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Dropout2d(dropout / 2),
            conv_norm(b, c, 3),
            nn.MaxPool2d((2, 1)),
        )
        self.narrow = nn.Linear(c * (num_mels // 16), lstm_size)
        self.lstm = nn.LSTM(lstm_size, lstm_size, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * lstm_size, 1)
        self.embedding = nn.Linear(2 * lstm_size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, mel: Tensor, mask: Tensor) -> Tensor:
        """`mel` (N, 1, 64, T), `mask` (N, 1, T) -> (N, size)."""
        x_NCFT = self.cnn(mel)
        x_NTD = x_NCFT.flatten(1, 2).transpose(1, 2)
        x_NTD, _ = self.lstm(self.dropout(F.silu(self.narrow(x_NTD))))
        step_mask = F.max_pool1d(mask, TIME_STRIDE, ceil_mode=True).squeeze(1)
        score = self.attention(x_NTD).squeeze(2) + (step_mask - 1.0) * 1e4
        pooled = (x_NTD * torch.softmax(score, dim=1).unsqueeze(2)).sum(dim=1)
        return F.silu(self.embedding(self.dropout(pooled)))


class VoiceNet(nn.Module):
    """Ensemble of members: embeddings joined to 256 values, logits averaged."""

    def __init__(
        self,
        num_labels: int = 7,
        num_mels: int = 64,
        num_members: int = 4,
        channels: tuple[int, int, int] = (16, 32, 64),
        lstm_size: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.classifier = MembersClassifier(EMBEDDING_SIZE, num_labels, num_members)
        size = self.classifier.member_size
        self.members = nn.ModuleList(
            VoiceMember(size, num_mels, channels, lstm_size, dropout) for _ in range(num_members)
        )
        self.dropout = nn.Dropout(dropout)
        # On a CPU, pooling few channels is three times faster with the channels last.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`mel` (N, 64, T), `mask` (N, T), 0 before the first audio -> embedding (N, 256), logits
        (N, num_labels); in training the logits of each member (N, M, num_labels).

        The mean of the window is subtracted from `mel` first, so that the output does not depend
        on the distance or the gain of the microphone.
        """
        columns = mask.unsqueeze(1)
        total = columns.sum(dim=2, keepdim=True).clamp_min(1.0) * mel.shape[1]
        mean = (mel * columns).sum(dim=(1, 2), keepdim=True) / total
        centered = ((mel - mean) * columns).unsqueeze(1)
        parts = [member(centered, columns) for member in self.members]
        return self.classifier.answer(parts, self.dropout)
