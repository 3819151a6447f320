"""Random changes: of the right shape, seeded, and within what their docstrings allow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emotion_edge.training.augment import jitter_faces, jitter_voice, mask_mel, scale_pixels


def test_scale_pixels() -> None:
    """The device's own scaling."""
    scaled = scale_pixels(torch.tensor([[[0, 255]]], dtype=torch.uint8), 0.5, 0.25)
    assert scaled.shape == (1, 1, 1, 2)
    assert scaled.flatten().tolist() == [-2.0, 2.0]


@pytest.mark.parametrize("size_px", [32, 47, 64])
def test_jitter_faces(size_px: int) -> None:
    """Same seed, same pictures; each face changed on its own; nothing far outside the range."""
    faces = torch.rand(1, 1, 48, 48).expand(16, -1, -1, -1) * 4 - 2
    torch.manual_seed(1)
    first = jitter_faces(faces, size_px)
    assert first.shape == (16, 1, size_px, size_px)
    assert torch.isfinite(first).all()
    assert first.abs().max() <= 2 * 1.5 + 0.6
    assert len({tuple(face.flatten()[:50].tolist()) for face in first}) == 16
    torch.manual_seed(1)
    assert torch.equal(jitter_faces(faces, size_px), first)
    assert not torch.equal(jitter_faces(faces, size_px), first)


def test_jitter_voice() -> None:
    """Pace within 10 %, loudness within 10 dB (and the noise's share), seeded."""
    n = np.arange(8_000)
    tone = torch.from_numpy(np.sin(2 * np.pi * 200 * n / 16_000).astype(np.float32))
    lengths = set()
    for seed in range(20):
        sound = jitter_voice(tone, torch.Generator().manual_seed(seed))
        again = jitter_voice(tone, torch.Generator().manual_seed(seed))
        assert torch.equal(sound, again)
        lengths.add(len(sound))
        assert 8_000 / 1.1 - 1 <= len(sound) <= 8_000 / 0.9 + 1
        gain_db = 20 * torch.log10(sound.square().mean().sqrt() * 2**0.5).item()
        assert -10.5 < gain_db < 11
    assert len(lengths) > 10
    silence = jitter_voice(torch.zeros(4_000), torch.Generator().manual_seed(3))
    assert torch.isfinite(silence).all()


def test_mask_mel() -> None:
    """In place; whole bands and whole stretches, of few columns; the rest untouched."""
    mel = torch.ones(32, 64, 300)
    assert mask_mel(mel, torch.Generator().manual_seed(0)) is mel
    hidden = mel == 0
    bands, stretches = hidden.all(dim=2).sum(dim=1), hidden.all(dim=1).sum(dim=1)
    assert bands.max() <= 20
    assert stretches.max() <= 80
    assert len(set(bands.tolist())) > 3
    assert len(set(stretches.tolist())) > 3
    in_bands, in_stretches = hidden.all(dim=2, keepdim=True), hidden.all(dim=1, keepdim=True)
    assert torch.equal(hidden, in_bands | in_stretches)
    assert set(mel.unique().tolist()) == {0.0, 1.0}
