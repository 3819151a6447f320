"""The voice recipe on data in the small: what it feeds, and that runs repeat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.voices import VoiceSet
from emotion_edge.training.data.windows import mel_windows, open_mel, window_ends
from emotion_edge.training.recipes.voice import (
    VoiceRecipe,
    WindowPredictions,
    draw_batch,
    predict_windows,
    prepare_speech,
    train_voice,
)

SPEC = MelSpec()
TINY = VoiceRecipe(num_epochs=2, batch_size=2, num_members=2, num_variants=2, crop_frames=104)


def make_audio_clips(num: int, seconds: float = 1.0, eight: bool = True) -> VoiceSet:
    rng = np.random.default_rng(0)
    audio_clips = [(0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)] * num
    names = [f"{n}" for n in range(num)]
    emotions = np.arange(num) % 8 if eight else np.full(num, -1)
    return VoiceSet(audio_clips, np.arange(num) % 7, emotions, np.arange(num) // 2, names)


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
    audio = make_audio_clips(1, seconds=4.0).audio_clips[0]
    ends = window_ends(len(audio), SPEC)
    windows, masks = mel_windows(audio, ends, open_mel(SPEC))
    assert windows.shape == (len(ends), 64, 300)
    for end, window, mask in zip(ends, windows, masks, strict=True):
        want = reference.log_mel(audio[:end], SPEC)[:, -300:]
        np.testing.assert_allclose(window, want, rtol=0, atol=1e-4)
        assert mask.all()
    _, short = mel_windows(audio[:16_000], [16_000], open_mel(SPEC))
    assert short.sum() == reference.num_columns(16_000, SPEC) == 98
    assert short[0, -98:].all()


def test_selects_rows() -> None:
    """`select` keeps sounds, labels and actors together."""
    voices = make_audio_clips(8)
    chosen = voices.select([1, 3])
    assert chosen.actors.tolist() == [1, 1, 3, 3]
    assert chosen.labels.tolist() == [2, 3, 6, 0]
    assert len(chosen.audio_clips) == 4
    assert voices.select([99]).audio_clips == []


def test_batches() -> None:
    """Right-aligned stretches, the label of each, and now and then noise that could be anything."""
    voices = make_audio_clips(4, seconds=2.0)
    speech = prepare_speech(voices, [], SPEC, TINY)
    assert [len(variants) for variants in speech.variants] == [2] * 4
    assert speech.targets.shape == (4, 8)
    rng = np.random.default_rng(0)
    index = np.arange(4)
    (mel, mask), target = draw_batch(speech, index, replace(TINY, noise_only=0.0), rng)
    assert mel.shape == (4, 64, 104)
    assert mask.shape == (4, 104)
    assert mask.all()
    assert target.argmax(dim=1).tolist() == [0, 1, 2, 3]
    (_, mask), target = draw_batch(
        speech, index, replace(TINY, crop_frames=300, noise_only=0.0), rng
    )
    assert (mask.sum(dim=1) < 300).all()
    assert mask[:, -100:].all(), "sound stands at the end, as on the device"
    _, target = draw_batch(speech, index, replace(TINY, noise_only=1.0), rng)
    torch.testing.assert_close(target, torch.full((4, 8), 1 / 8))
    _, target = draw_batch(speech, index, replace(TINY, noise_only=0.0, mixup=0.5), rng)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(4))
    assert (target.max(dim=1).values >= 0.5).all()


def test_other_data_have_seven_labels() -> None:
    """Where calm is not told from neutral, there are seven labels to learn."""
    speech = prepare_speech(make_audio_clips(3, eight=False), [], SPEC, TINY)
    assert speech.targets.shape == (3, 7)


def test_windows_are_averaged_by_recording() -> None:
    """Each recording's windows, however many it has."""
    heard = WindowPredictions(np.zeros((3, 2)), np.zeros((3, 2)), np.array([0, 1, 1]))
    mean = heard.mean(np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]]))
    np.testing.assert_allclose(mean, [[1.0, 0.0], [0.4, 0.6]])


def test_train_voice(tmp_path: Path) -> None:
    """The same seed gives the same network, killed or not; another seed another."""
    voices = make_audio_clips(4)
    speech = prepare_speech(voices, [], SPEC, TINY)
    first = train_voice(speech, SPEC, TINY, tmp_path / "voice.ckpt", validation=voices)
    again = train_voice(speech, SPEC, TINY)
    resumed = train_voice(speech, SPEC, TINY, tmp_path / "voice.ckpt", validation=voices)
    other = train_voice(speech, SPEC, replace(TINY, seed=1))
    for a, b, c in zip(first.parameters(), again.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    heard = predict_windows(first, voices.audio_clips, SPEC)
    assert heard.embeddings.shape == (4, 256)
    assert heard.logits.shape == (4, 8)
    assert heard.recording_index.tolist() == [0, 1, 2, 3]
