"""The face network: its outputs, and the luma of colour images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emotion_edge.training.models.face import BT601_LUMA, FaceNet, MirrorAveraged, fold_luma


@pytest.fixture(scope="module")
def model(settle: Callable[..., None]) -> FaceNet:
    torch.manual_seed(0)
    model = FaceNet(dropout=0, max_drop=0)
    settle(model, torch.randn(8, 3, 64, 64))
    return model


def assert_close(got: Tensor, want: Tensor) -> None:
    """Compare up to the rounding of 50 layers in float32."""
    torch.testing.assert_close(got, want, rtol=0, atol=1e-3 * float(want.abs().max()))


@torch.no_grad()
def test_outputs(model: FaceNet) -> None:
    """Embedding and logits for any image size, independent of the other images of a batch."""
    images = torch.randn(3, 3, 64, 64)
    embedding, logits = model(images)
    assert embedding.shape == (3, 256)
    assert logits.shape == (3, 7)
    assert_close(model(images[1:2])[1], logits[1:2])
    assert model(torch.randn(1, 3, 32, 32))[1].shape == (1, 7)


@torch.no_grad()
def test_fold_luma(model: FaceNet) -> None:
    """Exact on grey images; afterwards, images of equal luma have equal outputs."""
    gray = torch.randn(2, 1, 64, 64)
    color = torch.randn(2, 3, 64, 64)
    luma = torch.tensor(BT601_LUMA).view(1, 3, 1, 1)
    tinted = color + gray - (color * luma).sum(dim=1, keepdim=True)  # luma shares sum to 1
    want = model(gray.expand(-1, 3, -1, -1))[1]
    assert (model(tinted)[1] - want).abs().max() > 0.1 * want.abs().max()
    fold_luma(model)
    assert_close(model(gray.expand(-1, 3, -1, -1))[1], want)
    assert_close(model(tinted)[1], want)
    fold_luma(model)  # folding again changes nothing
    assert_close(model(tinted)[1], want)


@torch.no_grad()
def test_mirror_averaging() -> None:
    """An image and its mirror image have the same output: the mean of both."""
    model = FaceNet().eval()
    both = MirrorAveraged(model).eval()
    image = torch.randn(3, 3, 48, 48)
    embedding, logits = both(image)
    want = (model(image)[1] + model(image.flip(3))[1]) / 2
    torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both(image.flip(3))[0], embedding, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.classifier(embedding), logits)
