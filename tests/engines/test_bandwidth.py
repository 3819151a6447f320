"""Is a source narrow-band? Measured on its speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bandwidth import BandwidthMeter
from emotion_edge.kernels import open_log_mel
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.capture.demo import synthesize_speech
from emotion_edge.training.data import decode_audio

RATE = 16_000
SPEC = MelSpec(num_frames=3)
Audio = NDArray[np.float64]


def measure(meter: BandwidthMeter, audio: Audio) -> bool:
    """Feed all columns of `audio`, three at a time."""
    mel = open_log_mel(SPEC)
    samples = audio.astype(np.float32)
    for at in range(0, len(samples) - 480, 480):
        mel.push(samples[at : at + 480])
        columns, mask = mel.window()
        if mask.all():
            meter.update(columns[0])
    return meter.is_narrow


def is_narrow(audio: Audio) -> bool:
    return measure(BandwidthMeter(SPEC), audio)


def cut_above(audio: Audio, hz: float, tilt_db: float = 100.0) -> Audio:
    """Lower what is above `hz` by `tilt_db`."""
    spectrum = np.fft.rfft(audio)
    above = np.fft.rfftfreq(len(audio), 1 / RATE) > hz
    spectrum[above] *= 10 ** (-tilt_db / 20)
    return np.fft.irfft(spectrum, len(audio))


SPEECH = synthesize_speech(0, 6 * RATE).astype(np.float64)
HISS = np.random.default_rng(0).standard_normal(len(SPEECH))


@pytest.mark.parametrize("gain", [1.0, 0.03])
@pytest.mark.parametrize("hiss", [0.0, 0.01])
def test_telephone_is_narrow(gain: float, hiss: float) -> None:
    """Whatever its level and noise, which the telephone cuts as well."""
    noisy = SPEECH + hiss * HISS
    assert is_narrow(gain * cut_above(noisy, 3_400))
    assert is_narrow(gain * cut_above(noisy, 4_000))
    assert not is_narrow(gain * noisy)


@pytest.mark.parametrize(
    ("name", "audio"),
    [
        ("muffled by a cover", cut_above(SPEECH, 3_000, tilt_db=10)),
        ("up to 5.5 kHz", cut_above(SPEECH, 5_500)),
        ("silence", 0 * SPEECH),
        ("too quiet to say", 1e-4 * SPEECH),
        ("a fifth of a second", cut_above(SPEECH, 3_400)[: RATE // 5]),
    ],
)
def test_wide_or_unknown(name: str, audio: Audio) -> None:
    assert not is_narrow(audio), name


def test_source_that_changes() -> None:
    """A headset is connected and disconnected: within a few seconds of speech."""
    meter = BandwidthMeter(SPEC)
    assert not measure(meter, SPEECH)
    assert measure(meter, cut_above(SPEECH, 3_400))
    assert not measure(meter, SPEECH[: 2 * RATE])
    measure(meter, cut_above(SPEECH, 3_400))
    meter.reset()
    assert not meter.is_narrow


def test_real_recordings(shared_data: Path) -> None:
    """RAVDESS as it is, and as a telephone would carry it."""
    files = sorted((shared_data / "ravdess" / "audio").rglob("*.flac"))[::25]
    if not files:
        pytest.skip(f"no ravdess/audio in {shared_data}")
    audio = [decode_audio(file, RATE)[0].astype(np.float64) for file in files]
    assert np.mean([is_narrow(clip) for clip in audio]) <= 0.01
    assert np.mean([is_narrow(cut_above(clip, 3_900)) for clip in audio]) >= 0.97


def test_doubt_ends_with_the_first_wide_columns() -> None:
    """A telephone is doubtful from its first speech on, silence never."""
    meter = BandwidthMeter(SPEC)
    measure(meter, 0 * SPEECH)
    assert not meter.is_doubtful
    measure(meter, cut_above(SPEECH, 3_400)[: RATE // 5])
    assert meter.is_doubtful
    assert not meter.is_narrow
    measure(meter, SPEECH[: RATE // 2])
    assert not meter.is_doubtful
