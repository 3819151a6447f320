"""Ensemble of small networks of one shape, each trained on its own; their mean is the output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MembersClassifier(nn.Linear):
    """Linear layer on the joined embeddings of `num_members`, equal to the mean of one layer on
    each."""

    def __init__(self, embedding_size: int, num_labels: int, num_members: int) -> None:
        if embedding_size % num_members:
            raise ValueError(f"{num_members} members cannot share {embedding_size} values equally")
        super().__init__(embedding_size, num_labels)
        self.member_size = embedding_size // num_members

    def answer(self, parts: list[Tensor], dropout: nn.Dropout) -> tuple[Tensor, Tensor]:
        """Join the embeddings of the members, (N, member_size) each -> joined (N, embedding_size),
        logits (N, num_labels); in training the logits of each member (N, M, num_labels)."""
        joined = torch.cat(parts, dim=1)
        if not self.training:
            return joined, self(joined)
        rows = [
            F.linear(dropout(part), weight * len(parts), self.bias)
            for part, weight in zip(parts, self.weight.split(self.member_size, dim=1), strict=True)
        ]
        return joined, torch.stack(rows, dim=1)


def member_loss(label_smoothing: float) -> Callable[[tuple[Tensor, Tensor], Tensor], Tensor]:
    """Make the loss: the mean of the members' cross-entropies."""

    def loss(outputs: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        logits = outputs[1]
        targets = target.unsqueeze(1).expand(-1, logits.shape[1], -1)
        return F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(0, 1), label_smoothing=label_smoothing
        )

    return loss
