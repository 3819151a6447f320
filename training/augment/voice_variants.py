"""Each recording several times over, as other people in other rooms might have sounded.

In: recordings. Out: log-mel columns of each variant, computed once and drawn from in training:
changing the sound itself costs more than a step of so small a network.
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
    """How far a variant may be from the recording."""

    pace: float = 0.15
    """Faster and higher, or slower and lower, by up to this share: another speaker."""
    noisy: float = 0.5
    """Share of the variants with noise,"""
    snr_db: tuple[float, float] = (3.0, 35.0)
    """so far below the voice,"""
    reverberant: float = 0.35
    """share of the variants in a room,"""
    rt60_s: tuple[float, float] = (0.15, 0.7)
    """that sounds so long."""
    gain_db: float = 10.0


def make_variant(
    audio: Audio,
    noises: Sequence[Audio],
    change: VariantSettings,
    rate_hz: int,
    rng: np.random.Generator,
) -> Audio:
    """One variant of a recording (n,) -> (m,). Noise is one of `noises`, or white or pink."""
    percent = round(100 * change.pace)
    pace = int(rng.integers(100 - percent, 101 + percent))
    if pace != 100:
        audio = resample_poly(audio, 100, pace).astype(np.float32)
    if rng.random() < change.reverberant:
        audio = reverberate(
            audio, make_response(rng.uniform(*change.rt60_s), rate_hz, rng), rate_hz
        )
    if rng.random() < change.noisy:
        audio = add_noise(
            audio, draw_noise(noises, rate_hz, rng), rng.uniform(*change.snr_db), rate_hz, rng
        )
    return audio * np.float32(10 ** (rng.uniform(-change.gain_db, change.gain_db) / 20))


def draw_noise(noises: Sequence[Audio], rate_hz: int, rng: np.random.Generator) -> Audio:
    """Three in four from `noises` where there are any, else white or pink."""
    if noises and rng.random() < 0.75:
        return noises[int(rng.integers(len(noises)))]
    return make_noise(str(rng.choice(["white", "pink"])), round(NOISE_LENGTH_S * rate_hz), rng)


def make_variants(
    audio_clips: Sequence[Audio],
    noises: Sequence[Audio],
    num_variants: int,
    spec: MelSpec,
    seed: int,
    change: VariantSettings | None = None,
) -> list[list[NDArray[np.float16]]]:
    """For each recording the log-mel (num_mels, T) of itself and of `num_variants - 1` variants."""
    change = change or VariantSettings()
    rate_hz = spec.sample_rate_hz
    rows = []
    for number, audio in enumerate(tqdm(audio_clips, "variants", leave=False, disable=None)):
        rng = np.random.default_rng((seed, number))
        changed = [
            make_variant(audio, noises, change, rate_hz, rng) for _ in range(num_variants - 1)
        ]
        rows.append([log_mel(each, spec).astype(np.float16) for each in (audio, *changed)])
    return rows


def make_noise_only(
    noises: Sequence[Audio], num_windows: int, spec: MelSpec, seed: int
) -> list[NDArray[np.float16]]:
    """Log-mel windows (num_mels, num_frames) of noise in which nobody speaks, at any loudness."""
    rows = []
    for number in range(num_windows):
        rng = np.random.default_rng((seed, number))
        noise = draw_noise(noises, spec.sample_rate_hz, rng)
        start = int(rng.integers(len(noise)))
        stretch = np.resize(np.roll(noise, -start), spec.window_samples)
        level = 10 ** (rng.uniform(-50, -15) / 20)
        stretch = stretch * np.float32(level / max(1e-9, float(np.sqrt(np.square(stretch).mean()))))
        rows.append(log_mel(stretch, spec).astype(np.float16))
    return rows
