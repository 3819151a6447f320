"""The log-mel of the reference implementation, compared with librosa and with known values."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import MelSpec, Pcen, Root

librosa = pytest.importorskip("librosa", reason="librosa is in the test extra")
SPECS = [
    MelSpec(),
    MelSpec(fft_size=1024, window=640, hop=320, num_mels=40),
    MelSpec(sample_rate_hz=8_000, fft_size=256, window=200, hop=80, num_mels=32, high_hz=3_800),
]


@pytest.mark.parametrize("spec", SPECS)
def test_equals_librosa(spec: MelSpec) -> None:
    """Both use float64 and the same formula, so only rounding may differ: a few 1e-12 of the power,
    under 1e-9 of the result. librosa centers the window in its frame, hence the leading zeros; a
    shift does not change the power."""
    rng = np.random.default_rng(1)
    audio = (rng.standard_normal(4 * spec.fft_size) * 0.2).clip(-1, 1).astype(np.float32)
    audio[spec.fft_size : 2 * spec.fft_size] *= 1e-3
    emphasised = librosa.effects.preemphasis(
        audio.astype(np.float64), coef=spec.preemphasis, zi=np.zeros(1)
    )
    margin = (spec.fft_size - spec.window) // 2
    power = librosa.feature.melspectrogram(
        y=np.pad(emphasised, margin),
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_size,
        win_length=spec.window,
        hop_length=spec.hop,
        center=False,
        n_mels=spec.num_mels,
        fmin=spec.low_hz,
        fmax=spec.high_hz,
        htk=True,
        norm=None,
        dtype=np.float64,
    )
    want = (np.log(power + spec.floor) - spec.mean) / spec.std
    got = reference.log_mel(audio, spec)
    assert got.shape == want.shape
    float32_rounding = np.spacing(np.abs(want).max().astype(np.float32))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 + float32_rounding)


def test_pcen_equals_librosa() -> None:
    """librosa starts with a mean of its own choice, here the first column's power."""
    rule = Pcen(smoothing=0.1, gain=0.8, bias=1.5, exponent=0.3, mean=0.4, std=0.7)
    spec = MelSpec(num_mels=12, floor=1e-4, compression=rule)
    power = np.random.default_rng(2).exponential(size=(12, 40)) ** 4
    pcen, _ = librosa.pcen(
        power,
        b=rule.smoothing,
        gain=rule.gain,
        bias=rule.bias,
        power=rule.exponent,
        eps=spec.floor,
        zi=(1 - rule.smoothing) * power[:, :1],
        return_zf=True,
    )
    np.testing.assert_allclose(reference.compress(power, spec), (pcen - 0.4) / 0.7, rtol=1e-9)


def test_root_is_a_power() -> None:
    """Of the power and the floor."""
    spec = MelSpec(num_mels=2, floor=1.0, compression=Root(exponent=0.5, mean=1.0, std=2.0))
    np.testing.assert_allclose(reference.compress(np.array([[3.0], [8.0]]), spec), [[0.5], [1.0]])


def test_tone_lands_in_its_band() -> None:
    """A pure tone is loudest in the band with the nearest center, for every band of the spec."""
    spec = MelSpec(preemphasis=0.0)
    edges = np.linspace(
        reference.hz_to_mel(spec.low_hz), reference.hz_to_mel(spec.high_hz), spec.num_mels + 2
    )
    centres_hz = reference.mel_to_hz(edges)[1:-1]
    for band in range(20, spec.num_mels):  # below, bands are narrower than the FFT resolves
        tone = np.sin(2 * np.pi * centres_hz[band] * np.arange(400) / spec.sample_rate_hz)
        column = reference.log_mel(tone.astype(np.float32), spec)[:, 0]
        assert abs(int(column.argmax()) - band) <= 1, band


def test_silence_is_the_floor() -> None:
    """Digital silence is `(ln(floor) - mean) / std`."""
    spec = MelSpec(floor=1e-5, mean=-9.0, std=3.0)
    columns = reference.log_mel(np.zeros(1000, np.float32), spec)
    np.testing.assert_allclose(columns, (np.log(1e-5) + 9.0) / 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("num_samples", "columns"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (48_240, 300)]
)
def test_only_whole_columns(num_samples: int, columns: int) -> None:
    """A column needs its whole window; 3.015 s make the 300 columns of a window."""
    spec = MelSpec()
    assert reference.num_columns(num_samples, spec) == columns
    got = reference.log_mel(np.zeros(num_samples, np.float32), spec)
    assert got.shape == (spec.num_mels, columns)
    assert spec.window_samples == 48_240
