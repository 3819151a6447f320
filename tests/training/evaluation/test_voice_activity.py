"""Voice activity, scored by the device's tracker on a network that takes loud audio for speech."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines.speech_tracker import SpeechTracker
from emotion_edge.engines.voice_activity import VoiceActivityDetector
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.data import TEST_FOLDS
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.evaluation.voice_activity import (
    HEARINGS,
    evaluate_voice_activity,
    find_speech_end,
    format_table,
    load_sounds,
    measure_release,
    trace_usage,
)
from emotion_edge.training.evaluation.voice_activity_sets import list_speech, list_unused_sounds

from ...engines.speech_network import write_speech_network
from ..speech_files import make_recording, write_recording


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[SpeechTracker]:
    with VoiceActivityDetector(write_speech_network(tmp_path / "v.onnx")) as detector:
        yield SpeechTracker(detector, MelSpec())


def hiss(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)


def test_usage_follows_the_audio(tracker: SpeechTracker) -> None:
    """Used within the loud second; the trace has 33 steps a second and does not depend on what was
    traced before."""
    audio = np.concatenate([hiss(1, 1e-5), hiss(1, 0.3), hiss(1, 1e-5)])
    used = trace_usage(audio, tracker)
    assert len(used) == pytest.approx(99, abs=1)
    assert not used[:33].any()
    assert used[50:60].all()
    assert not used[-13:].any()
    assert np.array_equal(trace_usage(audio, tracker), used)


def test_release_counts_from_the_end_of_speech(tracker: SpeechTracker) -> None:
    """Silence at the end of a recording does not count."""
    rng = np.random.default_rng(0)
    speech = hiss(1, 0.3)
    bare = measure_release(speech, tracker, rng)
    padded = measure_release(np.concatenate([speech, np.zeros(32_000, np.float32)]), tracker, rng)
    assert bare is not None
    assert padded is not None
    assert 0.1 < bare < 0.6
    assert padded == pytest.approx(bare, abs=0.05)
    assert measure_release(hiss(1, 1e-6), tracker, rng) is None


def test_speech_ends_with_its_last_loud_block() -> None:
    end = find_speech_end(make_recording(1.0, 1.0, 1.0), 16_000)
    assert end == pytest.approx(32_000, abs=320)


def test_table_of_results(tracker: SpeechTracker) -> None:
    """Loud speech is heard, whispers are not; a loud sound is mistaken for speech, a quiet one is
    not."""
    sounds = {"saw": [hiss(2, 0.3)], "rain": [hiss(2, 1e-5), hiss(1, 1e-5)]}
    speech = {"loud": [hiss(1, 0.3, 1)], "whispers": [hiss(1, 1e-6, 1)] * 2}
    results = evaluate_voice_activity(tracker, speech, sounds)
    assert results["used"]["saw"] > 0.8
    assert results["used"]["rain"] == 0.0
    assert results["used_mean"] == pytest.approx(results["used"]["saw"] / 2)
    loud, whispers = (results["speech"][name] for name in speech)
    assert list(loud["missed"]) == [hearing.name for hearing in HEARINGS]
    assert (loud["n"], loud["missed"]["clean"]) == (1, 0.0)
    assert 0.1 < loud["release_s"]["max"] < 0.6
    assert (whispers["n"], whispers["missed"]["clean"]) == (2, 1.0)
    table = format_table(results)
    for name in ("saw", "rain", *speech, *loud["missed"]):
        assert name in table


@pytest.mark.parametrize("noise", ["real", "white"])
@pytest.mark.parametrize("snr_db", [5.0, 0.0])
def test_hearings_have_the_level_they_name(noise: str, snr_db: float) -> None:
    (hearing,) = (h for h in HEARINGS if (h.noise, h.snr_db) == (noise, snr_db))
    speech = make_recording(0.0, 1.0, 0.0) * np.float32(0.2)
    heard = hearing.apply(speech, [hiss(1, 0.1)], 16_000, np.random.default_rng(0))
    ratio = np.square(speech).mean() / np.square(heard - speech).mean()
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.3)


def test_quiet_hearing_has_the_peak_it_names() -> None:
    (hearing,) = (h for h in HEARINGS if h.peak_db is not None)
    heard = hearing.apply(make_recording(), [], 16_000, np.random.default_rng(0))
    assert 20 * np.log10(np.abs(heard).max()) == pytest.approx(hearing.peak_db)


def test_sounds_of_training_are_left_out(tmp_path: Path) -> None:
    """Of ESC's five folds the last two are used, of other sounds all; the folder is the class."""
    for fold in range(1, 6):
        write_recording(tmp_path / "dog" / f"{fold}-1-A-0.wav", hiss(0.5, 0.1))
    assert [path.name[0] for path in list_unused_sounds(tmp_path)] == ["4", "5"]
    write_recording(tmp_path / "door" / "mine.wav", hiss(0.5, 0.1))
    sounds = load_sounds(list_unused_sounds(tmp_path))
    assert {name: len(group) for name, group in sounds.items()} == {"dog": 2, "door": 1}


def test_only_sounds_of_training_is_an_error(tmp_path: Path) -> None:
    write_recording(tmp_path / "dog" / "1-1-A-0.wav", hiss(0.5, 0.1))
    with pytest.raises(DatasetError, match=tmp_path.name):
        list_unused_sounds(tmp_path)


def test_actors_of_training_are_left_out(tmp_path: Path) -> None:
    """Unless others are asked for. A folder without RAVDESS's names is used whole."""
    for actor in (2, 3, 16, 24):
        write_recording(tmp_path / f"03-01-03-01-01-01-{actor:02}.wav", hiss(0.5, 0.1))
    assert [int(path.stem[-2:]) for path in list_speech(tmp_path, None)] == [2, 16]
    assert {2, 16} <= set(TEST_FOLDS[0])
    assert [int(path.stem[-2:]) for path in list_speech(tmp_path, [3])] == [3]
    other = tmp_path / "other"
    write_recording(other / "a.wav", hiss(0.5, 0.1))
    assert [path.name for path in list_speech(other, None)] == ["a.wav"]
