"""The recipes of both networks on data in the small: what they feed, and that runs repeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.data.ferplus import FaceSet
from emotion_edge.training.face import (
    FaceRecipe,
    face_logits,
    prepare_faces,
    sampling_weights,
    split_held_out,
    train_face,
)
from emotion_edge.training.models.face import BT601_LUMA
from emotion_edge.training.voice import (
    VoiceRecipe,
    VoiceSet,
    mel_windows,
    open_mel,
    train_voice,
    voice_logits,
    window_ends,
)

SPEC = MelSpec()
TINY_FACE = FaceRecipe(sizes_px=(32, 32), batch_size=4, compile_model=False)


def make_sounds(num: int, seconds: float = 1.0) -> VoiceSet:
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)] * num
    return VoiceSet(sounds, np.arange(num) % 7, np.arange(num) // 2)


@pytest.mark.parametrize("size_px", [32, 48, 64, 96])
def test_faces_are_prepared_as_on_the_device(size_px: int) -> None:
    """The same picture through the training's way and the kernels' reference."""
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8)
    got = prepare_faces(faces, size_px, ImageSpec())
    assert got.shape == (3, 3, size_px, size_px)
    for face, tensor in zip(faces, got, strict=True):
        colour = np.repeat(face[:, :, None], 3, axis=2)
        want = reference.face_tensor(colour, (0.0, 0.0, 48.0), size_px, ImageSpec())
        np.testing.assert_allclose(tensor, want, rtol=0, atol=1e-5)


def test_held_out_faces() -> None:
    """A fifth at most, never in training, the same for the same seed."""
    faces = FaceSet(
        np.zeros((100, 48, 48), np.uint8),
        np.ones((100, 7), np.float32),
        np.zeros(100, np.int64),
        skipped=0,
    )
    learn, held_out = split_held_out(faces, seed=3)
    assert len(held_out) == 20
    assert sorted([*learn, *held_out]) == list(range(100))
    np.testing.assert_array_equal(split_held_out(faces, seed=3)[1], held_out)
    assert not np.array_equal(split_held_out(faces, seed=4)[1], held_out)


def test_rare_labels_are_drawn_more_often() -> None:
    """Four times as rare, twice as often."""
    votes = np.eye(7, dtype=np.float32)[[0] * 80 + [1] * 20]
    weights = sampling_weights(votes)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] / weights[0] == pytest.approx(2.0, rel=1e-3)


def test_train_face(write_ferplus: Callable[..., Path], tmp_path: Path) -> None:
    """From files to a network that reads colours by luma; started again it gives the same."""
    rows = {
        f"{i}.png": {"happiness": 10} if i % 2 else {"sadness": 6, "neutral": 4} for i in range(12)
    }
    root = write_ferplus(rows)
    first = train_face(root, tmp_path / "a", TINY_FACE, ImageSpec())
    assert (tmp_path / "a" / "face.ckpt").is_file()
    kernel = first.features[0][0].weight  # type: ignore[index]
    shares = torch.tensor(BT601_LUMA) / BT601_LUMA[0]
    torch.testing.assert_close(kernel / kernel[:, :1], shares.view(1, 3, 1, 1).expand_as(kernel))
    again = train_face(root, tmp_path / "b", TINY_FACE, ImageSpec())
    resumed = train_face(root, tmp_path / "a", TINY_FACE, ImageSpec())
    for a, b, c in zip(first.parameters(), again.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    logits = face_logits(first, np.zeros((2, 48, 48), np.uint8), 32, ImageSpec())
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    ("num_samples", "ends"),
    [
        (16_000, [16_000]),
        (48_240, [48_240]),
        (48_241, [48_241]),
        (52_240, [48_240, 52_240]),
        (60_000, [52_000, 56_000, 60_000]),
    ],
)
def test_window_ends(num_samples: int, ends: list[int]) -> None:
    """Every quarter of a second back from the end, while the window is full."""
    assert window_ends(num_samples, SPEC) == ends


def test_mel_windows_are_those_of_the_reference() -> None:
    """Each ends where it should; a short recording is padded in front, and masked there."""
    sound = make_sounds(1, seconds=4.0).sounds[0]
    ends = window_ends(len(sound), SPEC)
    windows, masks = mel_windows(sound, ends, open_mel(SPEC))
    assert windows.shape == (len(ends), 64, 300)
    for end, window, mask in zip(ends, windows, masks, strict=True):
        want = reference.log_mel(sound[:end], SPEC)[:, -300:]
        np.testing.assert_allclose(window, want, rtol=0, atol=1e-4)
        assert mask.all()
    _, short = mel_windows(sound[:16_000], [16_000], open_mel(SPEC))
    assert short.sum() == reference.num_columns(16_000, SPEC) == 98
    assert short[0, -98:].all()


def test_only_these_people() -> None:
    """`of` keeps sounds, labels and actors together."""
    voices = make_sounds(8)
    chosen = voices.of([1, 3])
    assert chosen.actors.tolist() == [1, 1, 3, 3]
    assert chosen.labels.tolist() == [2, 3, 6, 0]
    assert len(chosen.sounds) == 4
    assert voices.of([99]).sounds == []


def test_train_voice(tmp_path: Path) -> None:
    """The same seed gives the same network, killed or not; another seed another."""
    voices = make_sounds(4)
    recipe = VoiceRecipe(num_epochs=2, batch_size=2)
    first = train_voice(voices, SPEC, recipe, tmp_path / "voice.ckpt")
    again = train_voice(voices, SPEC, recipe)
    resumed = train_voice(voices, SPEC, recipe, tmp_path / "voice.ckpt")
    other = train_voice(voices, SPEC, VoiceRecipe(num_epochs=2, batch_size=2, seed=1))
    for a, b, c in zip(first.parameters(), again.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    logits = voice_logits(first, voices, SPEC)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1.0, rtol=1e-5)
