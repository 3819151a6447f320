"""Recordings in memory: invalid files and copies are skipped, the cache changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.decode import folder_sources
from emotion_edge.training.data.folder import load_folder
from emotion_edge.training.data.media import decode_audio
from emotion_edge.training.data.ravdess import EMOTIONS8, find_voice_clips
from emotion_edge.training.data.voices import load_voices
from emotion_edge.training.errors import DatasetError

from ..wav_files import write_wav

Write = Callable[..., Path]
SPEC = MelSpec()


def test_recordings_as_they_are(tmp_path: Path, make_audio_file: Write) -> None:
    """Samples, both kinds of label, actor and name, in the order of the clips."""
    for n, name in enumerate(("03-01-02-01-01-01-05", "03-01-03-01-01-01-02")):
        make_audio_file(f"{name}.wav", n, seconds=0.1 * (n + 1))
    voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert voices.names == ["03-01-02-01-01-01-05", "03-01-03-01-01-01-02"]
    assert [len(audio) for audio in voices.audio_clips] == [1_600, 3_200]
    exact, _ = decode_audio(tmp_path / "03-01-02-01-01-01-05.wav", 16_000)
    np.testing.assert_allclose(voices.audio_clips[0], exact, atol=0.5 / 32768)
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
    """Empty and broken files are logged and skipped."""
    make_audio_file("03-01-01-01-01-01-02.wav", 1)
    (tmp_path / "03-01-02-01-01-01-02.wav").touch()
    (tmp_path / "03-01-03-01-01-01-02.wav").write_bytes(b"RIFF and then nothing")
    make_audio_file("03-01-04-01-01-01-02.wav", 2)
    with caplog.at_level(logging.WARNING):
        voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert voices.names == ["03-01-01-01-01-01-02", "03-01-04-01-01-01-02"]
    assert voices.skipped == 2
    assert "03-01-02-01-01-01-02.wav" in caplog.text
    assert "03-01-03-01-01-01-02.wav" in caplog.text


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    """The error names the first file."""
    (tmp_path / "03-01-02-01-01-01-02.wav").touch()
    with pytest.raises(DatasetError, match=r"03-01-02-01-01-01-02\.wav"):
        load_voices(find_voice_clips(tmp_path), SPEC)


def test_same_samples_count_once(tmp_path: Path, make_audio_file: Write) -> None:
    """The first of two equal recordings stays, for any actor. A recording of another emotion is not
    a duplicate, nor is calm one of neutral."""
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
    """The same samples to the bit without, into and from the cache."""
    make_audio_file("03-01-03-01-02-01-07.wav", 1, rate_hz=rate_hz)
    clips = find_voice_clips(tmp_path)
    fresh = load_voices(clips, SPEC)
    for _ in range(2):
        cache = FeatureCache(tmp_path / "cache")
        np.testing.assert_array_equal(
            load_voices(clips, SPEC, cache).audio_clips[0], fresh.audio_clips[0]
        )
    assert (cache.hits, cache.built) == (1, 0)
    exact, _ = decode_audio(clips[0].path, 16_000)
    np.testing.assert_allclose(fresh.audio_clips[0], exact, rtol=0, atol=0.51 / 32_768)


def test_another_rate_is_a_miss(tmp_path: Path, make_audio_file: Write) -> None:
    """Samples cached for one spec are not used for another."""
    make_audio_file("03-01-03-01-02-01-07.wav", 1)
    clips, cache = find_voice_clips(tmp_path), FeatureCache(tmp_path / "cache")
    assert len(load_voices(clips, SPEC, cache).audio_clips[0]) == 3_200
    half = MelSpec(sample_rate_hz=8_000, high_hz=3_800)
    assert len(load_voices(clips, half, cache).audio_clips[0]) == pytest.approx(1_600, abs=20)


def test_loud_audio_does_not_wrap(tmp_path: Path) -> None:
    """Samples past full scale, which resampling makes, are clipped."""
    square = np.repeat(np.array([32_767, -32_768] * 40, np.int16), 120)
    path = write_wav(tmp_path / "03-01-03-01-02-01-07.wav", square, 48_000)
    (audio,) = load_voices(find_voice_clips(tmp_path), SPEC).audio_clips
    exact, _ = decode_audio(path, 16_000)
    np.testing.assert_allclose(audio, np.clip(exact, -1, 1), rtol=0, atol=1.6 / 32_768)


def test_sources_of_a_folder(tmp_path: Path, make_audio_file: Write) -> None:
    """A subject has the same number in every split; there is no RAVDESS emotion."""
    rows = [("a/1.wav", "happy", "ann", "train"), ("a/2.wav", "calm", "bob", "valid")]
    rows += [("3.wav", "fear", "ann", "train")]
    for n, (name, *_) in enumerate(rows):
        make_audio_file(name, n)
    lines = ["file,label,subject,split", *(",".join(row) for row in rows)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    sources = folder_sources(load_folder(tmp_path), tmp_path)
    assert [source.name for source in sources] == ["a/1.wav", "a/2.wav", "3.wav"]
    assert {source.emotion for source in sources} == {-1}
    labels = [LABELS[source.label] for source in sources]
    assert labels == ["happy", "neutral", "fear"]
    ann, bob, again = (source.actor for source in sources)
    assert ann == again != bob
    (valid,) = folder_sources(load_folder(tmp_path, "valid"), tmp_path)
    assert valid.actor == bob


@pytest.mark.parametrize(
    ("seconds", "level", "offset"), [(0.002, 3_000, 0), (1.0, 0, 0), (1.0, 5, 0), (1.0, 0, 9_000)]
)
def test_recording_without_sound(
    tmp_path: Path,
    make_audio_file: Write,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    level: int,
    offset: int,
) -> None:
    """Too short, silent, or an offset alone: skipped and named."""
    make_audio_file("03-01-03-01-01-01-02.wav", 1)
    rng = np.random.default_rng(0)
    samples = offset + rng.integers(-level, level + 1, round(16_000 * seconds), np.int16)
    write_wav(tmp_path / "03-01-04-01-01-01-02.wav", samples.astype(np.int16))
    voices = load_voices(find_voice_clips(tmp_path), SPEC)
    assert (len(voices.audio_clips), voices.skipped) == (1, 1)
    assert "03-01-04-01-01-01-02.wav" in caplog.text


def test_copy_of_a_broken_recording_is_used(
    tmp_path: Path, make_audio_file: Write, caplog: pytest.LogCaptureFixture
) -> None:
    """The archive holds its folders twice; the first copy was cut off while it was unpacked."""
    name = "Actor_02/03-01-03-01-01-01-02.wav"
    (tmp_path / "Actor_02").mkdir()
    (tmp_path / name).write_bytes(b"RIFF")
    whole = make_audio_file(f"audio_speech_actors_01-24/{name}", 1)
    voices = load_voices(find_voice_clips(tmp_path), SPEC)
    samples, _ = decode_audio(whole, 16_000)
    np.testing.assert_allclose(voices.audio_clips[0], samples, atol=1 / 32_768)
    assert (voices.skipped, voices.duplicates) == (0, 0)
    assert str(tmp_path / name) in caplog.text
