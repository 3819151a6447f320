"""Finer labels merged into coarser ones: logits of either network in, logits of the bundle's labels
out.

A voice network may learn the eight emotions of RAVDESS and answer with seven labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def merge_logits(logits: Tensor, groups: Sequence[int], num_labels: int) -> Tensor:
    """Merge logits (..., K) into (..., num_labels); `groups` has the label of each of the K values.

    The probability of a label is the sum of those of its values. Labels that are their own groups
    leave the logits as they are.
    """
    if tuple(groups) == tuple(range(num_labels)):
        return logits
    members = [[i for i, group in enumerate(groups) if group == n] for n in range(num_labels)]
    columns = [torch.logsumexp(logits[..., index], dim=-1) for index in members]
    return torch.stack(columns, dim=-1)


def check_groups(groups: Sequence[int], num_labels: int) -> tuple[int, ...]:
    """Return `groups`. Raises ValueError unless every label has one or more values, and no other
    label has any."""
    if set(groups) != set(range(num_labels)):
        raise ValueError(f"groups {list(groups)}: expected each of 0 to {num_labels - 1}")
    return tuple(groups)


class MergedLabels(nn.Module):
    """A network whose logits are merged by `groups`; its embedding is unchanged."""

    def __init__(self, model: nn.Module, groups: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.num_labels = len(set(groups))
        self.groups = check_groups(groups, self.num_labels)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As the network inside, logits (N, num_labels)."""
        embedding, logits = self.model(*inputs)
        return embedding, merge_logits(logits, self.groups, self.num_labels)
