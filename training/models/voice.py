"""The voice network: three seconds of log-mel in, an embedding and seven logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet import conv_norm
from .face import EMBEDDING_SIZE


class VoiceNet(nn.Module):
    """CNN that pools mostly over frequency, bidirectional LSTM over time, attentive pooling."""

    def __init__(
        self,
        num_labels: int = 7,
        num_mels: int = 64,
        channels: tuple[int, int, int] = (24, 48, 96),
        lstm_size: int = 96,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        a, b, c = channels
        self.cnn = nn.Sequential(
            conv_norm(1, a, 5, stride=2),
            nn.MaxPool2d((2, 1)),
            conv_norm(a, b, 3),
            nn.MaxPool2d((2, 2)),
            nn.Dropout2d(dropout / 2),
            conv_norm(b, c, 3),
            nn.MaxPool2d((2, 1)),
        )
        self.narrow = nn.Linear(c * (num_mels // 16), lstm_size)
        self.lstm = nn.LSTM(lstm_size, lstm_size, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * lstm_size, 1)
        self.embedding = nn.Linear(2 * lstm_size, EMBEDDING_SIZE)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(EMBEDDING_SIZE, num_labels)

    def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`mel` (N, 64, T), `mask` (N, T), 0 where there was no sound yet -> (N, 256), (N, 7).

        The mean of the window is taken out of `mel` first: what remains does not depend on how
        far the microphone stands or how it is set.
        """
        shown = mask.unsqueeze(1)
        total = shown.sum(dim=2, keepdim=True).clamp_min(1.0) * mel.shape[1]
        mean = (mel * shown).sum(dim=(1, 2), keepdim=True) / total
        x_NCFT = self.cnn(((mel - mean) * shown).unsqueeze(1))
        x_NTD = x_NCFT.flatten(1, 2).transpose(1, 2)
        x_NTD, _ = self.lstm(self.dropout(F.silu(self.narrow(x_NTD))))
        heard = F.max_pool1d(shown, 4).squeeze(1)
        score = self.attention(x_NTD).squeeze(2) + (heard - 1.0) * 1e4
        pooled = (x_NTD * torch.softmax(score, dim=1).unsqueeze(2)).sum(dim=1)
        embedding = F.silu(self.embedding(self.dropout(pooled)))
        return embedding, self.classifier(self.dropout(embedding))
