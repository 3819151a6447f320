"""RAVDESS: file names, folds without common actors, and audio of any rate."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.engines.bundles import LABELS
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data.media import decode_audio
from emotion_edge.training.data.ravdess import (
    EMOTIONS8,
    TEST_FOLDS,
    find_video_clips,
    find_voice_clips,
    parse_clip,
    split_actors,
)
from emotion_edge.training.data.voices import VoiceSet, load_voices
from emotion_edge.training.errors import DatasetError

from ..wav_files import write_wav

soundfile = pytest.importorskip("soundfile", reason="soundfile comes with librosa")

FOLDS = range(len(TEST_FOLDS))
ALL_ACTORS = [actor for actors in TEST_FOLDS for actor in actors]


def write_tone(path: Path, rate_hz: int, num_channels: int = 1) -> Path:
    """A second of 440 Hz with amplitude 0.5."""
    t = np.arange(rate_hz) / rate_hz
    samples = np.round(0.5 * 32_767 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    return write_wav(path, samples, rate_hz, num_channels)


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
    """Modality, emotion, label and actor from the published codes; calm counts as neutral."""
    clip = parse_clip(Path(f"folder/{stem}.wav"))
    assert clip is not None
    assert (clip.modality, clip.emotion, clip.label, clip.actor) == expected
    assert clip.label in LABELS
    assert clip.recording_id == stem[3:]


def test_numbers_in_the_name() -> None:
    """Intensity, statement, repetition and actor."""
    for name, numbers in (
        ("01-01-06-01-02-01-12.mp4", (1, 2, 1, 12)),
        ("03-01-06-02-01-02-11.wav", (2, 1, 2, 11)),
    ):
        clip = parse_clip(Path(name))
        assert clip is not None
        assert (clip.intensity, clip.statement, clip.repetition, clip.actor) == numbers


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
    """Songs and other files are not clips of speech."""
    assert parse_clip(Path(f"{stem}.wav")) is None


def test_emotions_cover_the_labels() -> None:
    """The published emotions are the product's labels and calm."""
    assert set(EMOTIONS8) == {*LABELS, "calm"}
    assert len(EMOTIONS8) == 8


def test_clips_are_found_in_any_layout(tmp_path: Path) -> None:
    """WAV or FLAC, in any folder; a recording stored twice counts once."""
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
    """The error names the folder and the actors."""
    (tmp_path / "03-01-03-01-01-01-02.wav").touch()
    for find in (find_voice_clips, find_video_clips):
        with pytest.raises(DatasetError, match="/none: "):
            find(tmp_path / "none")
        with pytest.raises(DatasetError, match=rf"{tmp_path}.* \[3, 4\]"):
            find(tmp_path, (4, 3))
    with pytest.raises(DatasetError, match=str(tmp_path)):
        find_video_clips(tmp_path)


def test_videos_are_found_in_the_published_layout(tmp_path: Path) -> None:
    """The video with audio if a recording has both; no songs and no audio files."""
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
    assert sorted(clip.path.stem for clip in find_video_clips(tmp_path)) == [
        "01-01-03-01-01-01-02",
        "01-01-05-01-01-01-05",
        "02-01-04-01-01-01-05",
    ]
    (clip,) = find_video_clips(tmp_path, [2])
    assert (clip.modality, clip.label, clip.actor) == ("both", "happy", 2)
    (voice,) = find_voice_clips(tmp_path, [2])
    assert voice.recording_id == clip.recording_id


@pytest.mark.parametrize(
    ("rate_hz", "num_channels"), [(48_000, 1), (44_100, 2), (16_000, 1), (8_000, 1)]
)
def test_audio_of_any_rate(tmp_path: Path, rate_hz: int, num_channels: int) -> None:
    """Mono at the requested rate, with the same length, pitch and loudness."""
    audio, _ = decode_audio(write_tone(tmp_path / "a.wav", rate_hz, num_channels), 16_000)
    assert audio.dtype == np.float32
    assert len(audio) == pytest.approx(16_000, abs=40)
    middle = audio[2_000:14_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 16_000 / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_wav_and_flac_are_the_same(tmp_path: Path) -> None:
    """A WAV file and a FLAC file of it have the same samples."""
    wav, flac = write_tone(tmp_path / "a.wav", 16_000), tmp_path / "a.flac"
    samples, rate_hz = soundfile.read(wav, dtype="int16")
    soundfile.write(flac, samples, rate_hz)
    np.testing.assert_array_equal(decode_audio(wav, 16_000)[0], decode_audio(flac, 16_000)[0])


@pytest.mark.parametrize("data", [None, b"", b"not audio", b"RIFF\x00\x00\x00\x00WAVE"])
def test_file_that_is_no_audio(tmp_path: Path, data: bytes | None) -> None:
    """The error names the file."""
    if data is not None:
        (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.wav"):
        decode_audio(tmp_path / "a.wav", 16_000)


def test_real_recordings(shared_data: Path) -> None:
    """21 actors with 60 recordings each, all actors of the folds among them."""
    root = shared_data / "ravdess" / "audio"
    clips = find_voice_clips(root)
    per_actor = Counter(clip.actor for clip in clips)
    assert set(per_actor) == {1, *(actor for fold in TEST_FOLDS for actor in fold)}
    assert set(per_actor.values()) == {60}
    labels = Counter(clip.label for clip in clips)
    assert labels["neutral"] == 21 * 12
    assert all(labels[label] == 21 * 8 for label in LABELS if label != "neutral")
    audio, _ = decode_audio(clips[0].path, 16_000)
    assert 2 < len(audio) / 16_000 < 6
    assert 0.01 < np.abs(audio).max() <= 1


@pytest.mark.parametrize("fold", FOLDS)
def test_splits_share_no_actor(fold: int) -> None:
    """Training, validation and test are disjoint and together hold all actors of the folds."""
    training, validation, test = split_actors(fold)
    together = [*training, *validation, *test]
    assert sorted(together) == sorted(ALL_ACTORS)
    assert len(set(together)) == len(together) == 20
    assert 1 not in together
    assert len(validation) == 4
    assert set(test) == set(TEST_FOLDS[fold])


def split_voices(voices: VoiceSet) -> Iterator[tuple[VoiceSet, VoiceSet, VoiceSet]]:
    """Yield training, validation and test recordings of each fold."""
    for fold in FOLDS:
        training, validation, test = (voices.select(actors) for actors in split_actors(fold))
        yield training, validation, test


@given(st.lists(st.tuples(st.integers(1, 24), st.integers(0, 7)), min_size=1, max_size=80))
def test_splits_share_no_recording(clips: list[tuple[int, int]]) -> None:
    """Each recording of an actor of the folds is in exactly one split of each fold, and is tested
    once."""
    num = len(clips)
    voices = VoiceSet(
        [np.full(4, n, np.float32) for n in range(num)],
        np.array([label % 7 for _, label in clips]),
        np.array([label for _, label in clips]),
        np.array([actor for actor, _ in clips]),
        [f"03-{n}" for n in range(num)],
    )
    known = [f"03-{n}" for n, (actor, _) in enumerate(clips) if actor in ALL_ACTORS]
    tested: Counter[str] = Counter()
    for training, validation, test in split_voices(voices):
        together = [*training.names, *validation.names, *test.names]
        assert sorted(together) == sorted(known)
        for split in (training, test):
            for name, actor, audio in zip(
                split.names, split.actors, split.audio_clips, strict=True
            ):
                assert clips[int(name[3:])][0] == actor
                assert audio[0] == int(name[3:])
        tested.update(test.names)
    assert tested == Counter(known)


def test_real_recordings_do_not_leak(shared_data: Path) -> None:
    """No recording and no samples of a test actor are in training or validation."""
    clips = find_voice_clips(shared_data / "ravdess" / "audio", ALL_ACTORS)
    voices = load_voices(clips, MelSpec())
    assert len(voices.audio_clips) == 1_199
    assert (voices.skipped, voices.duplicates) == (0, 1)

    def identify(split: VoiceSet) -> set[str | bytes]:
        hashes = {hashlib.sha256(audio.tobytes()).digest() for audio in split.audio_clips}
        return {*(name[3:] for name in split.names), *hashes}

    assert len(identify(voices)) == 2 * 1_199
    num_tested = 0
    for training, validation, test in split_voices(voices):
        for one, other in ((training, test), (validation, test), (training, validation)):
            assert identify(one).isdisjoint(identify(other))
        num_tested += len(test.names)
    assert num_tested == 1_199
