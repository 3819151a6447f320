"""Ensemble members: the joined classifier is the mean of the members' outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emotion_edge.training.models.members import MembersClassifier, member_loss


def test_mean_of_members() -> None:
    """In training each member has its own logits; their mean is the output of the ensemble."""
    classifier = MembersClassifier(12, 5, 3)
    parts = [torch.randn(2, 4) for _ in range(3)]
    no_dropout = nn.Dropout(0.0)
    joined, each = classifier.train().answer(parts, no_dropout)
    assert torch.equal(joined, torch.cat(parts, dim=1))
    assert each.shape == (2, 3, 5)
    _, logits = classifier.eval().answer(parts, no_dropout)
    torch.testing.assert_close(each.mean(dim=1), logits)
    parts[2] = torch.randn(2, 4)
    again = classifier.train().answer(parts, no_dropout)[1]
    torch.testing.assert_close(again[:, :2], each[:, :2])
    assert not torch.allclose(again[:, 2], each[:, 2])


def test_indivisible_embedding() -> None:
    with pytest.raises(ValueError, match=r"3 members.*256"):
        MembersClassifier(256, 7, 3)


def test_loss_is_the_mean_of_the_members_losses() -> None:
    """Not the loss of their mean, which would couple the members."""
    logits = torch.randn(4, 3, 5)
    target = torch.eye(5)[[0, 3, 1, 1]]
    want = torch.stack([nn.functional.cross_entropy(logits[:, m], target) for m in range(3)])
    torch.testing.assert_close(member_loss(0.0)((torch.empty(0), logits), target), want.mean())
