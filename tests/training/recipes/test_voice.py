"""The voice recipe on small data: its batches and reproducibility."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.voices import VoiceSet
from emotion_edge.training.recipes.voice import (
    HeldOutSpeech,
    VoiceRecipe,
    WindowPredictions,
    draw_batch,
    predict_windows,
    prepare_speech,
    train_voice,
)

SPEC = MelSpec()
TINY = VoiceRecipe(num_epochs=2, batch_size=2, num_members=2, num_variants=2, crop_frames=104)


def make_voices(num: int, seconds: float = 1.0) -> VoiceSet:
    rng = np.random.default_rng(0)
    audio_clips = [(0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)] * num
    names = [f"{n}" for n in range(num)]
    emotions = np.arange(num) % 8
    return VoiceSet(audio_clips, np.arange(num) % 7, emotions, np.arange(num) // 2, names)


def test_selects_rows() -> None:
    """`select` keeps audio, labels and actors together."""
    voices = make_voices(8)
    selected = voices.select([1, 3])
    assert selected.actors.tolist() == [1, 1, 3, 3]
    assert selected.labels.tolist() == [2, 3, 6, 0]
    assert len(selected.audio_clips) == 4
    assert voices.select([99]).audio_clips == []


def test_batches() -> None:
    """Right-aligned windows with the label of each; noise has the uniform distribution."""
    voices = make_voices(4, seconds=2.0)
    speech = prepare_speech(voices.audio_clips, voices.emotions, 8, [], SPEC, TINY)
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
    assert mask[:, -100:].all(), "audio is right-aligned, as on the device"
    _, target = draw_batch(speech, index, replace(TINY, noise_only=1.0), rng)
    torch.testing.assert_close(target, torch.full((4, 8), 1 / 8))
    _, target = draw_batch(speech, index, replace(TINY, noise_only=0.0, mixup=0.5), rng)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(4))
    assert (target.max(dim=1).values >= 0.5).all()


def test_windows_are_averaged_by_recording() -> None:
    """Recordings may have different numbers of windows."""
    windows = WindowPredictions(np.zeros((3, 2)), np.zeros((3, 2)), np.array([0, 1, 1]))
    mean = windows.mean(np.array([[1.0, 0.0], [0.2, 0.8], [0.6, 0.4]]))
    np.testing.assert_allclose(mean, [[1.0, 0.0], [0.4, 0.6]])


def test_train_voice(tmp_path: Path) -> None:
    """Equal seeds give equal weights, also when resumed; another seed gives others."""
    voices = make_voices(4)
    speech = prepare_speech(voices.audio_clips, voices.emotions, 8, [], SPEC, TINY)
    held_out = HeldOutSpeech(voices.audio_clips, voices.emotions)
    first = train_voice(speech, SPEC, TINY, tmp_path / "voice.ckpt", validation=held_out)
    again = train_voice(speech, SPEC, TINY)
    resumed = train_voice(speech, SPEC, TINY, tmp_path / "voice.ckpt", validation=held_out)
    other = train_voice(speech, SPEC, replace(TINY, seed=1))
    for a, b, c in zip(first.parameters(), again.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    windows = predict_windows(first, voices.audio_clips, SPEC)
    assert windows.embeddings.shape == (4, 256)
    assert windows.logits.shape == (4, 8)
    assert windows.recording_index.tolist() == [0, 1, 2, 3]
