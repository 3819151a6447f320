"""Recordings in memory: one bad file at a time, nothing twice, the same with and without cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.folder import load_folder
from emotion_edge.training.data.ravdess import EMOTIONS8, find_voice_clips, load_voice
from emotion_edge.training.data.voices import load_folder_voices, load_voices
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]
SPEC = MelSpec()


def test_recordings_as_they_are(tmp_path: Path, make_audio_file: Write) -> None:
    """In the order of the clips: samples, both kinds of label, actor, name."""
    for n, name in enumerate(("03-01-02-01-01-01-05", "03-01-03-01-01-01-02")):
        make_audio_file(f"{name}.wav", n, seconds=0.1 * (n + 1))
    voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert voices.names == ["03-01-02-01-01-01-05", "03-01-03-01-01-01-02"]
    assert [len(audio) for audio in voices.audio_clips] == [1_600, 3_200]
    np.testing.assert_array_equal(
        voices.audio_clips[0], load_voice(tmp_path / "03-01-02-01-01-01-05.wav", 16_000)
    )
    assert voices.labels.tolist() == [LABELS.index("neutral"), LABELS.index("happy")]
    assert voices.emotions.tolist() == [EMOTIONS8.index("calm"), EMOTIONS8.index("happy")]
    assert voices.actors.tolist() == [5, 2]
    assert voices.labels.dtype == voices.emotions.dtype == voices.actors.dtype == np.int64
    assert (voices.skipped, voices.duplicates) == (0, 0)
    second = voices.select([2])
    assert second.names == ["03-01-03-01-01-01-02"]
    assert second.emotions.tolist() == [EMOTIONS8.index("happy")]
    assert len(second.audio_clips[0]) == 3_200


def test_corrupt_recordings_are_named_and_counted(
    tmp_path: Path, make_audio_file: Write, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty and broken files in the middle do not end the loading."""
    make_audio_file("03-01-01-01-01-01-02.wav", 1)
    (tmp_path / "03-01-02-01-01-01-02.wav").touch()
    (tmp_path / "03-01-03-01-01-01-02.wav").write_bytes(b"RIFF and then nothing")
    make_audio_file("03-01-04-01-01-01-02.wav", 2)
    with caplog.at_level(logging.WARNING):
        voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert voices.names == ["03-01-01-01-01-01-02", "03-01-04-01-01-01-02"]
    assert voices.skipped == 2
    assert "03-01-02-01-01-01-02.wav: is empty" in caplog.text
    assert "03-01-03-01-01-01-02.wav: not a sound file" in caplog.text


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    """Not an empty set."""
    (tmp_path / "03-01-02-01-01-01-02.wav").touch()
    with pytest.raises(DatasetError, match=r"none of 1 recordings .*is empty"):
        load_voices(find_voice_clips(tmp_path), SPEC)


def test_same_samples_count_once(tmp_path: Path, make_audio_file: Write) -> None:
    """The first of two equal recordings stays, whoever is said to speak; another emotion's is no
    duplicate, and calm is another emotion than neutral."""
    make_audio_file("03-01-03-01-02-01-07.wav", 1)
    make_audio_file("03-01-03-01-02-02-07.wav", 1)
    make_audio_file("03-01-03-01-02-02-08.wav", 1)
    make_audio_file("03-01-04-01-02-02-07.wav", 1)
    make_audio_file("03-01-01-01-02-02-07.wav", 1)
    make_audio_file("03-01-02-01-02-02-07.wav", 1)
    make_audio_file("03-01-03-01-01-01-07.wav", 2)
    voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert voices.names == [
        "03-01-01-01-02-02-07",
        "03-01-02-01-02-02-07",
        "03-01-03-01-01-01-07",
        "03-01-03-01-02-01-07",
        "03-01-04-01-02-02-07",
    ]
    assert voices.duplicates == 2
    assert voices.skipped == 0


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_cache_changes_nothing(tmp_path: Path, make_audio_file: Write, rate_hz: int) -> None:
    """Fresh, first with a cache and from the cache: the same samples to the bit."""
    make_audio_file("03-01-03-01-02-01-07.wav", 1, rate_hz=rate_hz)
    clips = find_voice_clips(tmp_path)
    fresh = load_voices(clips, SPEC)
    for _ in range(2):
        cache = FeatureCache(tmp_path / "cache")
        np.testing.assert_array_equal(
            load_voices(clips, SPEC, cache).audio_clips[0], fresh.audio_clips[0]
        )
    assert (cache.hits, cache.built) == (1, 0)
    exact = load_voice(clips[0].path, 16_000)
    np.testing.assert_allclose(fresh.audio_clips[0], exact, rtol=0, atol=0.51 / 32_768)


def test_another_rate_is_decoded_anew(tmp_path: Path, make_audio_file: Write) -> None:
    """What was cached for one spec is not given out for another."""
    make_audio_file("03-01-03-01-02-01-07.wav", 1)
    clips, cache = find_voice_clips(tmp_path), FeatureCache(tmp_path / "cache")
    assert len(load_voices(clips, SPEC, cache).audio_clips[0]) == 3_200
    half = MelSpec(sample_rate_hz=8_000, high_hz=3_800)
    assert len(load_voices(clips, half, cache).audio_clips[0]) == pytest.approx(1_600, abs=20)


def test_loud_audio_does_not_wrap(tmp_path: Path) -> None:
    """Samples past full scale, as resampling makes them, are cut off and not turned over."""
    import wave

    path = tmp_path / "03-01-03-01-02-01-07.wav"
    square = np.repeat(np.array([32_767, -32_768] * 40, "<i2"), 120)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(square.tobytes())
    (audio,) = load_voices(find_voice_clips(tmp_path), SPEC).audio_clips
    exact = load_voice(path, 16_000)
    np.testing.assert_allclose(audio, np.clip(exact, -1, 1), rtol=0, atol=1.6 / 32_768)


def test_audio_files_of_a_folder(tmp_path: Path, make_audio_file: Write) -> None:
    """The same person has the same number in every split; there is no RAVDESS emotion."""
    rows = [("a/1.wav", "happy", "ann", "train"), ("a/2.wav", "calm", "bob", "valid")]
    rows += [("3.wav", "fear", "ann", "train"), ("4.png", "fear", "ann", "train")]
    for n, (name, *_) in enumerate(rows[:3]):
        make_audio_file(name, n)
    lines = ["file,label,subject,split", *(",".join(row) for row in rows)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    everything = load_folder_voices(load_folder(tmp_path), tmp_path, SPEC)
    assert everything.names == ["a/1.wav", "a/2.wav", "3.wav"]
    assert everything.emotions.tolist() == [-1, -1, -1]
    assert everything.labels.tolist() == [LABELS.index(x) for x in ("happy", "neutral", "fear")]
    assert everything.actors[0] == everything.actors[2] != everything.actors[1]
    alone = load_folder_voices(load_folder(tmp_path, "valid"), tmp_path, SPEC)
    assert alone.actors.tolist() == [everything.actors[1]]
