"""Variants of each recording: other voices, rooms and noise.

In: recordings. Out: the log-mel of each variant. Variants are computed once, because augmenting
the audio costs more than a training step of so small a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly
from tqdm import tqdm

from ...kernels.reference import log_mel
from ...kernels.spec import MelSpec
from .corruptions import add_noise, make_noise, make_response, reverberate

Audio = NDArray[np.float32]

NOISE_LENGTH_S = 5.0


@dataclass(frozen=True, slots=True)
class VariantSettings:
    """Limits of a variant."""

    pace: float = 0.15
    """Largest change of speed and pitch, as a share: another speaker."""
    noisy: float = 0.5
    """Share of the variants with noise."""
    snr_db: tuple[float, float] = (3.0, 35.0)
    """Range of the signal-to-noise ratio."""
    reverberant: float = 0.35
    """Share of the variants with reverberation."""
    rt60_s: tuple[float, float] = (0.15, 0.7)
    """Range of the reverberation time."""
    gain_db: float = 10.0
    """Largest change of level, up or down."""


def make_variant(
    audio: Audio,
    noises: Sequence[Audio],
    settings: VariantSettings,
    rate_hz: int,
    rng: np.random.Generator,
) -> Audio:
    """Make a variant of a recording (n,) -> (m,). Noise is one of `noises`, or white or pink."""
    percent = round(100 * settings.pace)
    pace = int(rng.integers(100 - percent, 101 + percent))
    if pace != 100:
        audio = resample_poly(audio, 100, pace).astype(np.float32)
    if rng.random() < settings.reverberant:
        audio = reverberate(
            audio, make_response(rng.uniform(*settings.rt60_s), rate_hz, rng), rate_hz
        )
    if rng.random() < settings.noisy:
        audio = add_noise(
            audio, draw_noise(noises, rate_hz, rng), rng.uniform(*settings.snr_db), rate_hz, rng
        )
    return audio * np.float32(10 ** (rng.uniform(-settings.gain_db, settings.gain_db) / 20))


def draw_noise(noises: Sequence[Audio], rate_hz: int, rng: np.random.Generator) -> Audio:
    """Draw one of `noises` in three of four cases, else make white or pink noise."""
    if noises and rng.random() < 0.75:
        return noises[int(rng.integers(len(noises)))]
    return make_noise(str(rng.choice(["white", "pink"])), round(NOISE_LENGTH_S * rate_hz), rng)


def make_variants(
    audio_clips: Sequence[Audio],
    noises: Sequence[Audio],
    num_variants: int,
    spec: MelSpec,
    seed: int,
    settings: VariantSettings | None = None,
) -> list[list[NDArray[np.float16]]]:
    """Compute the log-mel (num_mels, T) of each recording and of `num_variants - 1` variants."""
    settings = settings or VariantSettings()
    rate_hz = spec.sample_rate_hz
    rows = []
    for number, audio in enumerate(tqdm(audio_clips, "variants", leave=False, disable=None)):
        rng = np.random.default_rng((seed, number))
        variants = [
            make_variant(audio, noises, settings, rate_hz, rng) for _ in range(num_variants - 1)
        ]
        rows.append([log_mel(each, spec).astype(np.float16) for each in (audio, *variants)])
    return rows


def make_noise_only(
    noises: Sequence[Audio], num_windows: int, spec: MelSpec, seed: int
) -> list[NDArray[np.float16]]:
    """Compute log-mel windows (num_mels, num_frames) of noise without speech, at random levels."""
    rows = []
    for number in range(num_windows):
        rng = np.random.default_rng((seed, number))
        noise = draw_noise(noises, spec.sample_rate_hz, rng)
        start = int(rng.integers(len(noise)))
        section = np.resize(np.roll(noise, -start), spec.window_samples)
        level = 10 ** (rng.uniform(-50, -15) / 20)
        section = section * np.float32(level / max(1e-9, float(np.sqrt(np.square(section).mean()))))
        rows.append(log_mel(section, spec).astype(np.float16))
    return rows
