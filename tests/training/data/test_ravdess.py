"""RAVDESS: file names, folds that keep people apart, and sound at any rate."""

from __future__ import annotations

import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.training.data.ravdess import (
    EMOTIONS8,
    TEST_FOLDS,
    find_video_clips,
    find_voice_clips,
    load_voice,
    parse_clip,
)
from emotion_edge.training.errors import DatasetError

soundfile = pytest.importorskip("soundfile", reason="soundfile comes with librosa")


def write_wav(
    path: Path, rate_hz: int = 48_000, num_channels: int = 1, seconds: float = 1.0
) -> Path:
    """A 440 Hz tone of amplitude 0.5, 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    samples = np.round(0.5 * 32_767 * np.sin(2 * np.pi * 440 * t)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat(samples, num_channels).tobytes())
    return path


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("03-01-01-01-01-01-01", ("voice", "neutral", "neutral", 1)),
        ("03-01-02-02-02-02-24", ("voice", "calm", "neutral", 24)),
        ("01-01-03-01-02-01-07", ("both", "happy", "happy", 7)),
        ("02-01-04-01-02-01-07", ("video", "sad", "sad", 7)),
        ("03-01-05-01-02-01-07", ("voice", "angry", "angry", 7)),
        ("03-01-06-01-02-01-07", ("voice", "fear", "fear", 7)),
        ("03-01-07-01-02-01-07", ("voice", "disgust", "disgust", 7)),
        ("03-01-08-01-01-02-13", ("voice", "surprise", "surprise", 13)),
    ],
)
def test_file_names(stem: str, expected: tuple[str, str, str, int]) -> None:
    """Emotions by their published codes; the product has no calm."""
    clip = parse_clip(Path(f"folder/{stem}.wav"))
    assert clip is not None
    assert (clip.modality, clip.emotion, clip.label, clip.actor) == expected
    assert clip.label in LABELS
    assert clip.recording_id == stem[3:]


def test_numbers_in_the_name() -> None:
    """Each at its place: intensity, statement, repetition, actor."""
    clip = parse_clip(Path("01-01-06-01-02-01-12.mp4"))
    assert clip is not None
    assert (clip.intensity, clip.statement, clip.repetition, clip.actor) == (1, 2, 1, 12)
    clip = parse_clip(Path("03-01-06-02-01-02-11.wav"))
    assert clip is not None
    assert (clip.intensity, clip.statement, clip.repetition, clip.actor) == (2, 1, 2, 11)


@pytest.mark.parametrize(
    "stem",
    [
        "03-02-05-01-02-01-07",  # song
        "04-01-05-01-02-01-07",
        "03-01-09-01-01-01-01",
        "03-01-00-01-01-01-01",
        "03-01-05-03-01-01-01",
        "03-01-05-01-01-01-01-copy",
        "03-01-05-01-01-01-01\n",
        "x03-01-05-01-01-01-01",
        "03-01-05-01-01-01",
        "",
    ],
)
def test_foreign_names(stem: str) -> None:
    """Neither song nor anything else is taken for a clip of speech."""
    assert parse_clip(Path(f"{stem}.wav")) is None


def test_emotions_cover_the_labels() -> None:
    """The published eight are the product's seven and calm."""
    assert set(EMOTIONS8) == {*LABELS, "calm"}
    assert len(EMOTIONS8) == 8


def test_clips_are_found_in_any_layout(tmp_path: Path) -> None:
    """WAV or FLAC, in folders or none; a take stored twice counts once; the rest is no clip."""
    for name in (
        "03-01-03-01-01-01-02.wav",
        "Audio_Speech_Actors_01-24/Actor_05/03-01-04-01-01-01-05.wav",
        "Actor_05/03-01-04-01-01-01-05.flac",
        "Actor_05/03-01-05-01-01-01-05.FLAC",
        "Actor_05/03-02-05-01-01-01-05.wav",
        "Actor_05/03-01-05-01-01-02-05.txt",
        "Actor_05/03-01-05-01-01-02-05.wav.part",
        "readme.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clips = find_voice_clips(tmp_path)
    assert sorted((clip.path.stem, clip.label, clip.actor) for clip in clips) == [
        ("03-01-03-01-01-01-02", "happy", 2),
        ("03-01-04-01-01-01-05", "sad", 5),
        ("03-01-05-01-01-01-05", "angry", 5),
    ]
    assert {clip.actor for clip in find_voice_clips(tmp_path, [2, 9])} == {2}


def test_no_clip_is_an_error(tmp_path: Path) -> None:
    """The folder is named, and whom was looked for."""
    with pytest.raises(DatasetError, match="none: no such folder"):
        find_voice_clips(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"no RAVDESS speech .* all"):
        find_voice_clips(tmp_path)
    write_wav(tmp_path / "03-01-03-01-01-01-02.wav")
    with pytest.raises(DatasetError, match=r"actors \[3, 4\]"):
        find_voice_clips(tmp_path, (4, 3))


def test_videos_are_found_in_the_published_layout(tmp_path: Path) -> None:
    """With sound where a take has both; either kind alone when asked for; no recordings."""
    for name in (
        "Video_Speech_Actor_02/Actor_02/01-01-03-01-01-01-02.mp4",
        "Video_Speech_Actor_02/Actor_02/02-01-03-01-01-01-02.mp4",
        "Video_Speech_Actor_05/Actor_05/02-01-04-01-01-01-05.MP4",
        "Actor_05/01-01-05-01-01-01-05.mkv",
        "Audio_Speech_Actors_01-24/Actor_02/03-01-03-01-01-01-02.wav",
        "Video_Song_Actor_02/Actor_02/01-02-03-01-01-01-02.mp4",
        "Actor_05/01-01-06-01-01-01-05.wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def stems(**options: bool) -> list[str]:
        return sorted(clip.path.stem for clip in find_video_clips(tmp_path, **options))

    assert stems() == ["01-01-03-01-01-01-02", "01-01-05-01-01-01-05", "02-01-04-01-01-01-05"]
    assert stems(with_audio=True) == ["01-01-03-01-01-01-02", "01-01-05-01-01-01-05"]
    assert stems(with_audio=False) == ["02-01-03-01-01-01-02", "02-01-04-01-01-01-05"]
    (clip,) = find_video_clips(tmp_path, [2])
    assert (clip.modality, clip.label, clip.actor) == ("both", "happy", 2)
    (voice,) = find_voice_clips(tmp_path, [2])
    assert voice.recording_id == clip.recording_id
    with pytest.raises(DatasetError, match=r"no RAVDESS film .* actors \[9\]"):
        find_video_clips(tmp_path, [9])
    with pytest.raises(DatasetError, match="none: no such folder"):
        find_video_clips(tmp_path / "none")


@pytest.mark.parametrize(
    ("rate_hz", "num_channels"), [(48_000, 1), (44_100, 2), (16_000, 1), (8_000, 1)]
)
def test_audio_of_any_rate(tmp_path: Path, rate_hz: int, num_channels: int) -> None:
    """Mono at the rate asked for: same length, pitch and loudness."""
    audio = load_voice(write_wav(tmp_path / "a.wav", rate_hz, num_channels), 16_000)
    assert audio.dtype == np.float32
    assert len(audio) == pytest.approx(16_000, abs=40)
    middle = audio[2_000:14_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 16_000 / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_wav_and_flac_are_the_same(tmp_path: Path) -> None:
    """The published WAV and a FLAC of it give the same samples."""
    wav = write_wav(tmp_path / "a.wav", 16_000)
    samples, rate_hz = soundfile.read(wav, dtype="int16")
    soundfile.write(tmp_path / "a.flac", samples, rate_hz)
    np.testing.assert_array_equal(load_voice(wav, 16_000), load_voice(tmp_path / "a.flac", 16_000))


@pytest.mark.parametrize("data", [b"", b"not a sound", b"RIFF\x00\x00\x00\x00WAVE"])
def test_file_that_is_no_audio(tmp_path: Path, data: bytes) -> None:
    """A DatasetError with the path."""
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.wav"):
        load_voice(tmp_path / "a.wav", 16_000)
    with pytest.raises(DatasetError, match=r"b\.wav"):
        load_voice(tmp_path / "b.wav", 16_000)


def test_real_recordings(shared_data: Path) -> None:
    """All 21 actors with 60 takes each; a fold's people are all there; a take can be heard."""
    root = shared_data / "ravdess" / "audio"
    clips = find_voice_clips(root)
    per_actor = Counter(clip.actor for clip in clips)
    assert set(per_actor) == {1, *(actor for fold in TEST_FOLDS for actor in fold)}
    assert set(per_actor.values()) == {60}
    labels = Counter(clip.label for clip in clips)
    assert labels["neutral"] == 21 * 12
    assert all(labels[label] == 21 * 8 for label in LABELS if label != "neutral")
    audio = load_voice(clips[0].path, 16_000)
    assert 2 < len(audio) / 16_000 < 6
    assert 0.01 < np.abs(audio).max() <= 1
