"""The voice network: invariant to masked columns and to loudness."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emotion_edge.training.models.voice import VoiceNet


@pytest.fixture(scope="module")
def model(settle: Callable[..., None]) -> VoiceNet:
    torch.manual_seed(0)
    model = VoiceNet(dropout=0)
    settle(model, torch.randn(2, 64, 300), torch.ones(2, 300))
    return model


def make_window(num_columns: int) -> tuple[Tensor, Tensor]:
    mask = torch.zeros(2, 300)
    mask[:, 300 - num_columns :] = 1
    return torch.randn(2, 64, 300), mask


@torch.no_grad()
def test_outputs(model: VoiceNet) -> None:
    """Embedding and logits, independent of the other windows of a batch."""
    mel, mask = make_window(300)
    embedding, logits = model(mel, mask)
    assert embedding.shape == (2, 256)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(model(mel[1:], mask[1:])[1], logits[1:])


@torch.no_grad()
@pytest.mark.parametrize("num_columns", [0, 1, 99, 250])
def test_masked_columns_do_not_count(model: VoiceNet, num_columns: int) -> None:
    """Their values change no bit of the output; without any audio the output is finite."""
    mel, mask = make_window(num_columns)
    other = torch.where(mask.unsqueeze(1) > 0, mel, torch.randn_like(mel) * 100)
    want = model(mel, mask)[1]
    assert torch.isfinite(want).all()
    assert torch.equal(model(other, mask)[1], want)


@torch.no_grad()
def test_columns_shown_do_count(model: VoiceNet) -> None:
    """A change of one band in the newest columns changes the output."""
    mel, mask = make_window(200)
    other = mel.clone()
    other[:, 10, -20:] += 3
    assert (model(other, mask)[1] - model(mel, mask)[1]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("gain_db", [-30.0, 20.0])
def test_loudness_does_not_count(model: VoiceNet, gain_db: float) -> None:
    """A gain adds a constant to the log-mel and does not change the output."""
    mel, mask = make_window(220)
    shift = gain_db / 4.34 / 4.0  # dB to nepers of power, and the spec's scaling
    torch.testing.assert_close(
        model(mel + shift, mask)[1], model(mel, mask)[1], rtol=1e-3, atol=1e-4
    )
