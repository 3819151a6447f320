"""The face detector's network: sizes, and light that does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emotion_edge.training.models import STRIDES, FaceDetectorGraph, FaceDetectorNet
from emotion_edge.training.models.face_detector import LightNorm


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(60, 200, (1, 1, 96, 160)).astype(np.float32))


@pytest.mark.parametrize("size", [(96, 160), (64, 32)])
def test_there_is_one_row_per_cell(size: tuple[int, int]) -> None:
    graph = FaceDetectorGraph(FaceDetectorNet()).eval()
    scores, boxes, landmarks = graph(torch.zeros(1, 1, *size))
    count = sum(size[0] // stride * (size[1] // stride) for stride in STRIDES)
    assert scores.shape == (count,)
    assert boxes.shape == (count, 3)
    assert landmarks.shape == (count, 10)
    assert (scores < 0.1).all()  # faces are rare before training


@pytest.mark.parametrize("gain", [0.25, 1.25])
def test_the_light_is_normalized(picture: torch.Tensor, gain: float) -> None:
    """Without steps of 8 bits a factor changes the maps only by the offset near black."""
    norm = LightNorm()
    assert norm(picture * gain) == pytest.approx(norm(picture).numpy(), abs=0.25)


def test_a_flat_picture_stays_flat() -> None:
    maps = LightNorm()(torch.full((1, 1, 64, 64), 90.0))
    assert maps.abs().max() < 0.1


def test_a_side_of_a_picture_in_the_shade_is_seen(picture: torch.Tensor) -> None:
    """The local maps of the dark half are as strong as those of the bright one."""
    shaded = picture.clone()
    shaded[..., :80] *= 0.2
    maps = LightNorm()(shaded)
    dark, bright = maps[0, 1, :, 4:40].std(), maps[0, 1, :, 120:156].std()
    assert dark == pytest.approx(float(bright), rel=0.3)
