"""Augmentation: shapes, seeds, and the limits of the docstrings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emotion_edge.training.augment.transforms import (
    blur,
    compress_faces,
    jitter_faces,
    mask_mel,
    scale_pixels,
)


def test_scale_pixels() -> None:
    """As on the device."""
    scaled = scale_pixels(torch.tensor([[[0, 255]]], dtype=torch.uint8), 0.5, 0.25)
    assert scaled.shape == (1, 1, 1, 2)
    assert scaled.flatten().tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("size_px", [32, 47, 64])
def test_jitter_faces(size_px: int) -> None:
    """Equal seeds give equal images; each face is augmented independently, within the range."""
    faces = torch.rand(1, 1, 48, 48).expand(16, -1, -1, -1) * 4 - 2
    torch.manual_seed(1)
    first = jitter_faces(faces, size_px)
    assert first.shape == (16, 1, size_px, size_px)
    assert torch.isfinite(first).all()
    assert first.abs().max() <= 2 * 1.5 + 0.6 + 1.0
    assert len({tuple(face.flatten()[:50].tolist()) for face in first}) == 16
    torch.manual_seed(1)
    assert torch.equal(jitter_faces(faces, size_px), first)
    assert not torch.equal(jitter_faces(faces, size_px), first)


def test_blur() -> None:
    """A point spreads and its sum stays; a uniform image is unchanged."""
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1.0
    soft = blur(point, 1.5)
    assert soft.sum() == pytest.approx(1.0, abs=1e-5)
    assert soft[0, 0, 10, 10] == pytest.approx(1 / (2 * np.pi * 1.5**2), rel=0.02)
    plain = torch.full((1, 1, 9, 9), 0.7)
    torch.testing.assert_close(blur(plain, 3.0), plain)


def test_compress_faces() -> None:
    """About the requested share changes; the input does not."""
    faces = np.random.default_rng(0).integers(0, 256, (40, 48, 48), dtype=np.uint8)
    before = faces.copy()
    out = compress_faces(faces, np.random.default_rng(1), share=0.5)
    changed = (out != faces).any(axis=(1, 2))
    assert 10 <= changed.sum() <= 30
    assert np.array_equal(faces, before)
    assert np.array_equal(out, compress_faces(faces, np.random.default_rng(1), share=0.5))


def test_mask_mel() -> None:
    """Whole bands and whole spans of few columns are masked in place, all else is unchanged."""
    mel = torch.ones(32, 64, 300)
    assert mask_mel(mel, torch.Generator().manual_seed(0)) is mel
    hidden = mel == 0
    bands, spans = hidden.all(dim=2).sum(dim=1), hidden.all(dim=1).sum(dim=1)
    assert bands.max() <= 20
    assert spans.max() <= 80
    assert len(set(bands.tolist())) > 3
    assert len(set(spans.tolist())) > 3
    in_bands, in_spans = hidden.all(dim=2, keepdim=True), hidden.all(dim=1, keepdim=True)
    assert torch.equal(hidden, in_bands | in_spans)
    assert set(mel.unique().tolist()) == {0.0, 1.0}
