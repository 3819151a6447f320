"""The voice-activity network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from emotion_edge.training.models import (
    NUM_COLUMNS,
    STRIDE_COLUMNS,
    LastProbability,
    VoiceActivityNet,
)


@pytest.fixture
def network(settle: Callable[..., None]) -> VoiceActivityNet:
    model = VoiceActivityNet()
    settle(model, torch.randn(8, 64, 200))
    return model


@torch.no_grad()
def test_window_gives_the_scene_s_value(network: VoiceActivityNet) -> None:
    """What the device computes from the last 120 columns is what training saw in a scene."""
    scene = torch.randn(1, 64, 300)
    values = network(scene)[0]
    assert len(values) == (300 - NUM_COLUMNS) // STRIDE_COLUMNS + 1
    device = LastProbability(network)
    for index in (0, 17, len(values) - 1):
        start = index * STRIDE_COLUMNS
        (speech,) = device(scene[..., start : start + NUM_COLUMNS])
        assert speech.item() == pytest.approx(torch.sigmoid(values[index]).item(), abs=1e-5)


@torch.no_grad()
def test_every_column_matters(network: VoiceActivityNet) -> None:
    """The first and the last of the 120 columns change the value."""
    mel = torch.randn(1, 64, NUM_COLUMNS)
    value = network(mel)
    for column in (0, NUM_COLUMNS - 1):
        changed = mel.clone()
        changed[..., column] += 5.0
        assert not torch.equal(network(changed), value)


def test_too_few_columns_is_an_error(network: VoiceActivityNet) -> None:
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 64, NUM_COLUMNS - 1))


def test_small() -> None:
    assert sum(p.numel() for p in VoiceActivityNet().parameters()) < 80_000
