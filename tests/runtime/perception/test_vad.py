"""Which audio counts as speech."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.cpu.mel import StreamingLogMel, compile_push
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.capture.demo import synthesize_speech
from emotion_edge.runtime.perception.vad import MIN_COLUMNS, MIN_DYNAMIC_RANGE_DB, is_speech_like

RATE = 16_000
MIN_LEVEL_DB = -55.0


@pytest.fixture(scope="module")
def mel() -> StreamingLogMel:
    compile_push()
    return StreamingLogMel(MelSpec())


def detects_speech(mel: StreamingLogMel, audio: NDArray[np.float32]) -> bool:
    """Return whether the last three seconds of `audio` are speech."""
    mel.restart(0)
    mel.push(np.ascontiguousarray(audio[-3 * RATE :], np.float32))
    return is_speech_like(mel.levels_db(), MIN_LEVEL_DB)


def share_of_speech(mel: StreamingLogMel, audio: NDArray[np.float32]) -> float:
    """Return the share of windows, one each half second, that are speech."""
    ends = range(3 * RATE, len(audio) + 1, RATE // 2)
    return float(np.mean([detects_speech(mel, audio[end - 3 * RATE : end]) for end in ends]))


def noise(seconds: float, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(round(seconds * RATE))


T_S = np.arange(3 * RATE) / RATE
RAIN = np.convolve(noise(3, 2) * (1 + 0.4 * np.repeat(noise(0.1, 3)[:750] > 0.5, 64)), [0.5, 0.5])
QUIET = {
    "digital silence": np.zeros(3 * RATE),
    "steady noise": 0.1 * noise(3),
    "mains hum": 0.3 * np.sin(2 * np.pi * 50 * T_S) + 0.1 * np.sin(2 * np.pi * 150 * T_S),
    "rain": 0.1 * RAIN[: 3 * RATE],
    "fan": 0.2
    * np.convolve(noise(3, 4), np.ones(50) / 50)[: 3 * RATE]
    * (1 + 0.2 * np.sin(2 * np.pi * 12 * T_S)),
    "speech far too soft": 0.002 * synthesize_speech(0, 3 * RATE),
    "hiss under the threshold": 1e-4 * noise(3, 5),
}


@pytest.mark.parametrize("name", QUIET)
def test_no_speech(mel: StreamingLogMel, name: str) -> None:
    """Silence and steady audio."""
    assert not detects_speech(mel, QUIET[name].astype(np.float32))


@pytest.mark.parametrize("gain", [0.05, 1.0, 10.0])
def test_speech(mel: StreamingLogMel, gain: float) -> None:
    """A voice in syllables with pauses: soft, normal, and clipping."""
    room = 1e-4 * noise(3, 6)
    assert detects_speech(mel, (gain * synthesize_speech(0, 3 * RATE) + room).astype(np.float32))


def test_speech_in_a_noisy_room(mel: StreamingLogMel) -> None:
    """Speech 20 dB above steady noise counts, speech 10 dB below it does not."""
    voice = synthesize_speech(0, 3 * RATE).astype(np.float64)
    level = np.sqrt(np.mean(voice**2))
    assert detects_speech(mel, (voice + 0.1 * level * noise(3, 7)).astype(np.float32))
    assert not detects_speech(mel, (voice + 3 * level * noise(3, 7)).astype(np.float32))


def test_limits() -> None:
    """At both thresholds a window counts; just below one, or too short, it does not."""
    levels = np.full(100, -40.0, np.float32)
    levels[50:] = -40.0 + MIN_DYNAMIC_RANGE_DB
    assert is_speech_like(levels, -30.0)
    assert not is_speech_like(levels, -29.9)
    levels[50:] -= 0.1
    assert not is_speech_like(levels, -60.0)
    levels[50:] += 20
    assert is_speech_like(levels[-MIN_COLUMNS - 10 :], -60.0)
    assert not is_speech_like(levels[40 : 40 + MIN_COLUMNS - 1], -60.0)
    assert not is_speech_like(levels[:0], -60.0)


def read_audio(path: Path) -> NDArray[np.float32]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        pieces = [
            piece.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for piece in resampler.resample(frame)
        ]
    return np.concatenate(pieces)


def test_real_rain(mel: StreamingLogMel, shared_data: Path) -> None:
    """Recorded rain is not speech. (Surf and a passing helicopter sometimes count: their level
    varies as much as that of speech.)"""
    files = sorted((shared_data / "noise" / "002_Rain").glob("*.ogg"))[:12]
    if not files:
        pytest.skip(f"no noise/002_Rain in {shared_data}")
    assert np.mean([share_of_speech(mel, read_audio(file)) for file in files]) <= 0.1


def test_real_voices(mel: StreamingLogMel, shared_data: Path) -> None:
    """Recordings of every actor, over all emotions."""
    actors = sorted((shared_data / "ravdess" / "audio").glob("Actor_*"))
    if not actors:
        pytest.skip(f"no ravdess/audio in {shared_data}")
    files = [sorted(actor.glob("03-01-*.flac"))[n % 60] for n, actor in enumerate(actors, 5)]
    speech = [detects_speech(mel, read_audio(file)[: 3 * RATE]) for file in files]
    assert np.mean(speech) >= 0.95
