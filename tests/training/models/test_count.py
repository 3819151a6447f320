"""Parameters and FLOPs against the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emotion_edge.training.models.count import Cost, count_cost
from emotion_edge.training.models.efficientnet import efficientnet_b0_features


def test_linear() -> None:
    """Two FLOPs per weight; the bias is a parameter."""
    assert count_cost(nn.Linear(10, 4), (torch.zeros(1, 10),)) == Cost(44, 80)


def test_convolution() -> None:
    """Per output pixel and channel: kernel area times input channels of its group."""
    model = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4, bias=False)
    cost = count_cost(model, (torch.zeros(1, 8, 12, 12),))
    assert cost.num_parameters == 16 * 2 * 9
    assert cost.num_flops == 2 * 6 * 6 * 16 * 2 * 9


@pytest.mark.parametrize("num_directions", [1, 2])
def test_lstm(num_directions: int) -> None:
    """Four gates, each from the input and from the last state, at every step."""
    model = nn.LSTM(5, 7, batch_first=True, bidirectional=num_directions == 2)
    cost = count_cost(model, (torch.zeros(1, 11, 5),))
    assert cost.num_parameters == num_directions * 4 * 7 * (5 + 7 + 2)
    assert cost.num_flops == 2 * num_directions * 11 * 4 * 7 * (5 + 7)


def test_efficientnet_b0() -> None:
    """As published (Tan & Le 2019, table 2): 0.39 billion multiply-adds at 224 px, 5.3 million
    parameters, 1280 * 1000 + 1000 of them in the classifier."""
    cost = count_cost(efficientnet_b0_features(), (torch.zeros(1, 3, 224, 224),))
    assert cost.num_flops / 2 == pytest.approx(0.39e9, rel=0.02)
    assert cost.num_parameters + 1_281_000 == pytest.approx(5.3e6, rel=0.01)


@pytest.mark.parametrize("training", [True, False])
def test_model_is_unchanged(training: bool) -> None:
    """Counting changes neither a batch norm nor the mode."""
    model = nn.BatchNorm1d(3).train(training)
    count_cost(model, (torch.ones(1, 3),))
    assert model.training == training
    assert torch.equal(model.running_mean, torch.zeros(3))
