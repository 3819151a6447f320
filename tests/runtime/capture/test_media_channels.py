"""Files with several audio channels: speech is heard wherever it is."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.runtime.capture.demo import synthesize_speech
from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.training.data import decode_audio

RATE = 16_000
SPEECH = synthesize_speech(0, 3 * RATE)
SILENCE = np.zeros_like(SPEECH)


def write_wav(path: Path, *channels: NDArray[np.float32]) -> Path:
    """Write 16-bit PCM without a channel layout."""
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, RATE, 0, "NONE", ""))
        file.writeframes((np.stack(channels, axis=1) * 32_767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mono", [SPEECH]),
        ("offset", [SPEECH + 0.05]),
        ("stereo", [SPEECH, SPEECH]),
        ("opposed", [SPEECH, -SPEECH]),
        ("dead", [SILENCE, SPEECH]),
        ("three", [SILENCE, SILENCE + 0.02, SPEECH]),
        ("eight", [*[SILENCE] * 6, SPEECH, SILENCE]),
    ],
)
def test_speech_is_as_loud_as_it_was(
    tmp_path: Path, name: str, channels: list[NDArray[np.float32]]
) -> None:
    """From 0.1 s on, in a run and in training alike."""
    path = write_wav(tmp_path / f"{name}.wav", *channels)
    played = np.concatenate([chunk.samples for chunk in MediaFile(path).chunks()])
    assert len(played) == len(SPEECH)
    late = slice(RATE // 10, None)
    assert np.std(played[late]) == pytest.approx(np.std(SPEECH[late]), rel=0.1)
    assert abs(np.corrcoef(played[late], SPEECH[late])[0, 1]) > 0.98
    np.testing.assert_array_equal(decode_audio(path, RATE)[0], played)
