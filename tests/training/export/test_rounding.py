"""Networks whose weights fit into 16 bits, and what that changes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import nn

from emotion_edge.training.export.onnx import MIN_FP16_VALUES, round_to_fp16
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.fusion import ChannelFusion
from emotion_edge.training.models.voice import VoiceNet


def fusion_input(batch: int) -> list[torch.Tensor]:
    faces, voice = torch.randn(batch, 8, 256), torch.randn(batch, 256)
    return [faces, torch.ones(batch, 8), voice, torch.ones(batch, 1)]


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (FaceNet, lambda: [torch.randn(8, 3, 64, 64)]),
        (VoiceNet, lambda: [torch.randn(4, 64, 300), torch.ones(4, 300)]),
        (ChannelFusion, lambda: fusion_input(8)),
    ],
)
def test_rounded_networks(
    network: type[nn.Module], inputs: Callable[[], list[torch.Tensor]], settle: Callable[..., None]
) -> None:
    """No batch norm is left, every large weight is one of float16, and the answers are close to
    those of before; the network itself stays as it is."""
    model = network()
    shown = inputs()
    settle(model, *shown)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rounded = round_to_fp16(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kinds = [type(module) for module in rounded.modules()]
    assert nn.BatchNorm2d not in kinds
    assert nn.BatchNorm1d not in kinds
    for parameter in rounded.parameters():
        if parameter.numel() >= MIN_FP16_VALUES:
            assert torch.equal(parameter.half().float(), parameter)
    assert not any(module.training for module in rounded.modules())
    with torch.no_grad():
        for got, want in zip(rounded(*shown), model.eval()(*shown), strict=True):
            assert 0 < (got - want).abs().max() < 0.03 * want.abs().max()


def test_values_outside_fp16_stay() -> None:
    """A value beyond 65504 keeps its whole tensor; so do few values."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    with torch.no_grad():
        model[0].weight[0, 0] = 1e5
    rounded = round_to_fp16(model)
    for got, want in chain(zip(rounded.parameters(), model.parameters(), strict=True)):
        assert torch.equal(got, want)
    assert round_to_fp16(nn.Linear(16, 16)).weight.dtype == torch.float32
