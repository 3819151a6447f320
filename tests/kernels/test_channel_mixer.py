"""Audio of several channels to one: DC, channels that cancel, channels without sound."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.channel_mixer import ChannelMixer, to_float

RATE = 16_000
Audio = NDArray[np.float32]


def make_syllables(seconds: float = 4.0, rate: int = RATE) -> Audio:
    """Harmonics of 150 Hz in four syllables a second, with pauses."""
    t_s = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 150 * k * t_s) / k for k in range(1, 20))
    rhythm = np.maximum(0.0, np.sin(2 * np.pi * 4 * t_s)) * (t_s % 2 < 1.5)
    return np.asarray(0.1 * rhythm * tone, np.float32)


def make_noise(level: float, count: int, seed: int = 0) -> Audio:
    return (level * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def mix(*channels: Audio, rate: int = RATE) -> Audio:
    samples = np.stack(channels, axis=1)
    return ChannelMixer(len(channels), rate).mix(samples)


def level_db(samples: Audio) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20))


SPEECH = make_syllables()
SILENCE = np.zeros_like(SPEECH)
NOISE = [make_noise(1e-3, len(SPEECH), seed) for seed in range(8)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mono", [SPEECH]),
        ("stereo", [SPEECH, SPEECH]),
        ("opposed", [SPEECH, -SPEECH]),
        ("opposed, and one quieter", [SPEECH, -0.9 * SPEECH + NOISE[0]]),
        ("one of two is dead", [SILENCE, SPEECH]),
        ("one of two is constant", [SILENCE + 0.3, SPEECH]),
        ("one of eight", [*[SILENCE] * 5, SPEECH, *[SILENCE] * 2]),
        ("one of eight, the others hiss", [*NOISE[:5], SPEECH, *NOISE[5:7]]),
    ],
)
def test_speech_keeps_its_level(name: str, channels: list[Audio]) -> None:
    """Within 1 dB from 100 ms on, and it is the speech."""
    mixed = mix(*channels)[1600:]
    assert level_db(mixed) == pytest.approx(level_db(SPEECH[1600:]), abs=1.0), name
    assert abs(np.corrcoef(mixed, SPEECH[1600:])[0, 1]) > 0.98, name


@pytest.mark.parametrize(
    "noise",
    [0.3 * np.sin(np.arange(len(SPEECH)) / 51), make_noise(0.01, len(SPEECH))],
    ids=["hum", "hiss"],
)
def test_steady_noise_in_the_other_channel(noise: Audio) -> None:
    """It is left out after half a second, however loud it is in itself."""
    mixed = mix(noise.astype(np.float32), SPEECH)[RATE // 2 :]
    assert level_db(mixed) == pytest.approx(level_db(SPEECH[RATE // 2 :]), abs=1.0)
    assert np.corrcoef(mixed, SPEECH[RATE // 2 :])[0, 1] > 0.98


@pytest.mark.parametrize("dc", [0.02, -0.05, 0.5])
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_dc_does_not_matter(dc: float, rate: int) -> None:
    """From the first sample on, at any rate."""
    speech = make_syllables(1.0, rate) / 4
    np.testing.assert_allclose(
        mix(speech + np.float32(dc), rate=rate), mix(speech, rate=rate), atol=1e-6
    )
    quiet = mix(np.full(rate, dc, np.float32), rate=rate)
    assert np.abs(quiet).max() == 0.0


def test_dc_that_begins_midway_ends_soon() -> None:
    """After 100 ms it is 55 dB lower."""
    step = np.where(np.arange(RATE) < RATE // 2, 0.0, 0.05).astype(np.float32)
    mixed = mix(step)
    assert np.abs(mixed[: RATE // 2]).max() == 0.0
    assert np.abs(mixed[RATE // 2 + 1_600 :]).max() < 0.05 / 500


def test_low_tones_pass() -> None:
    """10 Hz lose 3 dB, 80 Hz nothing to speak of."""
    at = np.arange(2 * RATE) / RATE
    for hz, loss_db in ((10.0, 3.0), (80.0, 0.07)):
        tone = np.sin(2 * np.pi * hz * at).astype(np.float32)
        lost_db = level_db(tone[RATE:]) - level_db(mix(tone)[RATE:])
        assert lost_db == pytest.approx(loss_db, abs=0.1)


def test_two_talkers_in_two_channels() -> None:
    """Each is heard at once when his turn comes, whoever spoke before."""
    first, second = SPEECH.copy(), SPEECH.copy()
    first[2 * RATE :] = 0
    second[: 2 * RATE] = 0
    mixed = mix(first, second)
    turn = slice(2 * RATE + 800, 2 * RATE + 4_000)
    assert level_db(mixed[turn]) > level_db(SPEECH[turn]) - 6.5
    assert np.corrcoef(mixed[turn], SPEECH[turn])[0, 1] > 0.95


def test_a_channel_that_dies_does_not_click() -> None:
    """No jump exceeds those of its channels, and after 8 s it is as loud as the other one."""
    speech = make_syllables(10.0)
    lost = speech.copy()
    lost[2 * RATE :] = 0
    mixed = mix(lost, -speech)
    assert np.abs(np.diff(mixed)).max() < 1.1 * np.abs(np.diff(speech)).max()
    late = slice(9 * RATE, None)
    assert level_db(mixed[late]) == pytest.approx(level_db(speech[late]), abs=1.0)


def test_cut_of_the_stream_does_not_matter() -> None:
    """To the bit, in chunks of any length."""
    samples = np.stack([SPEECH, 0.5 * SPEECH + NOISE[0], NOISE[1]], axis=1)
    whole = ChannelMixer(3, RATE).mix(samples)
    mixer, parts, at = ChannelMixer(3, RATE), [], 0
    for size in np.random.default_rng(0).integers(1, 700, 500):
        parts.append(mixer.mix(samples[at : at + size]))
        at += size
    np.testing.assert_array_equal(np.concatenate(parts)[: len(whole)], whole)


def test_samples_that_are_not_finite() -> None:
    """They count as 0 and spoil nothing after them."""
    broken = SPEECH.copy()
    broken[[5, 900]] = np.nan, np.inf
    mixed = mix(broken, SPEECH)
    assert np.isfinite(mixed).all()
    np.testing.assert_allclose(mixed[RATE:], mix(SPEECH)[RATE:], atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("uint8", 128), ("int16", 2**15), ("int32", 2**31), ("float32", 1), ("float64", 1)],
)
def test_sample_formats(dtype: str, scale: int) -> None:
    """Planar and packed give the same floats."""
    frames = np.array([[0.5, -0.25], [0.0, 0.75], [-1.0, 0.125]])
    stored = (frames * scale + (128 if dtype == "uint8" else 0)).astype(dtype)
    for array in (np.ascontiguousarray(stored.T), stored.reshape(1, -1)):
        converted = to_float(array, 2)
        assert converted.dtype == np.float32
        np.testing.assert_allclose(converted, frames, atol=1e-6)
    mono = to_float(stored[None, :, 0], 1)
    np.testing.assert_allclose(mono, frames[:, :1], atol=1e-6)
