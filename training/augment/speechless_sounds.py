"""Synthetic sounds without speech: beeps, melodies, keys, hum, engines, bursts of noise.

In: a number of samples and a random generator. Out: audio (n,) with a peak of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from .corruptions import Audio

RATE_HZ = 16_000
Wave = NDArray[np.float64]


def make_speechless(num_samples: int, rng: np.random.Generator) -> Audio:
    """Make a random one of the sounds of this module."""
    name = str(rng.choice(list(SOUNDS)))
    wave = SOUNDS[name](num_samples, rng)
    return (wave / max(1e-9, float(np.abs(wave).max(initial=0.0)))).astype(np.float32)


def colored_noise(num_samples: int, rng: np.random.Generator) -> Wave:
    """Noise whose power falls as 1 / f ** a, a from 0 (white) to 2 (brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum *= np.arange(1, len(spectrum) + 1) ** (
        -0.5 * rng.choice([0.0, 1.0, 2.0, rng.uniform(0, 2)])
    )
    return np.asarray(np.fft.irfft(spectrum, num_samples))


def band_noise(num_samples: int, rng: np.random.Generator) -> Wave:
    """Noise of a band, steady or swelling: wind, a fan, a tap."""
    low = float(np.exp(rng.uniform(np.log(60), np.log(3000))))
    high = min(7900.0, low * float(rng.uniform(1.3, 8)))
    band = butter(2, [low, high], "bandpass", fs=RATE_HZ, output="sos")
    noise = np.asarray(sosfilt(band, rng.standard_normal(num_samples)))
    return noise * _swell(num_samples, float(rng.uniform(0, 1)), float(rng.uniform(0.1, 8)), rng)


def noise_bursts(num_samples: int, rng: np.random.Generator) -> Wave:
    """Bursts of colored or band noise with a sharp or soft start: coughs of a machine, doors,
    steps, breathing."""
    source = (colored_noise if rng.random() < 0.5 else band_noise)(num_samples, rng)
    return source * _gates(num_samples, rng, (0.03, 0.8), (0.05, 1.5))


def clicks(num_samples: int, rng: np.random.Generator) -> Wave:
    """Clicks and short resonances, regular as a clock's or irregular as keys."""
    train = np.zeros(num_samples)
    period_s = float(rng.uniform(0.08, 1.0))
    jitter = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.1, 0.8))
    t = float(rng.uniform(0, period_s)) * RATE_HZ
    while t < num_samples:
        train[int(t)] = rng.uniform(0.3, 1.0)
        follow = int(t) + int(rng.uniform(0.01, 0.12) * RATE_HZ)
        if follow < num_samples and jitter:
            train[follow] = rng.uniform(0.1, 0.6)
        t += period_s * RATE_HZ * float(np.exp(jitter * rng.standard_normal()))
    length = int(0.06 * RATE_HZ)
    n = np.arange(length) / RATE_HZ
    body = np.zeros(length)
    for _ in range(int(rng.integers(1, 4))):
        decay = float(rng.uniform(40, 900))
        body += np.exp(-decay * n) * np.sin(2 * np.pi * rng.uniform(300, 7000) * n)
    body += np.exp(-float(rng.uniform(100, 1500)) * n) * rng.standard_normal(length) * rng.random()
    return np.asarray(fftconvolve(train, body)[:num_samples])


def beeps(num_samples: int, rng: np.random.Generator) -> Wave:
    """Tones switched on and off, steady, warbling or sweeping: alarms, telephones, DTMF."""
    t = np.arange(num_samples) / RATE_HZ
    base = float(np.exp(rng.uniform(np.log(180), np.log(4000))))
    kind = int(rng.integers(4))
    pitch = np.full(num_samples, base)
    if kind == 1:
        pitch = base * (
            1 + rng.uniform(0.02, 0.4) * np.sign(np.sin(2 * np.pi * rng.uniform(1, 16) * t))
        )
    elif kind == 2:
        pitch = base * 2 ** (rng.uniform(0.2, 1.5) * np.sin(2 * np.pi * rng.uniform(0.1, 4) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    tone = np.sin(phase)
    if rng.random() < 0.4:
        tone = np.sign(tone) if rng.random() < 0.5 else tone + 0.5 * np.sin(2 * phase)
    if kind == 3:
        tone = tone + np.sin(phase * rng.uniform(1.1, 1.9))
    if rng.random() < 0.75:
        tone = tone * _gates(num_samples, rng, (0.04, 1.0), (0.04, 1.0))
    return np.asarray(tone)


def melody(num_samples: int, rng: np.random.Generator) -> Wave:
    """Notes of one to four voices with harmonics, vibrato and an envelope, and a beat."""
    out = np.zeros(num_samples)
    beat_s = float(rng.uniform(0.12, 0.7))
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    for _ in range(int(rng.integers(1, 5))):
        root = float(rng.uniform(70, 600))
        harmonics = np.arange(1, int(rng.integers(2, 12)))
        weights = harmonics ** -float(rng.uniform(0.5, 2.5)) * rng.uniform(0.2, 1, len(harmonics))
        vibrato, attack_s = float(rng.uniform(0, 0.015)), float(rng.uniform(0.003, 0.08))
        decay = float(rng.uniform(0.3, 8))
        at = 0
        while at < num_samples:
            length = int(beat_s * float(rng.choice([0.5, 1, 1, 2])) * RATE_HZ)
            if rng.random() < 0.85:
                n = np.arange(min(length, num_samples - at)) / RATE_HZ
                pitch = root * 2 ** (float(rng.choice(scale)) / 12)
                phase = 2 * np.pi * pitch * (n + vibrato / 35 * np.sin(2 * np.pi * 5.5 * n))
                note = (weights[:, None] * np.sin(harmonics[:, None] * phase)).sum(axis=0)
                out[at : at + len(n)] += note * np.minimum(1, n / attack_s) * np.exp(-decay * n)
            at += length
    if rng.random() < 0.5:
        out = out / max(1e-9, np.abs(out).max()) + 0.5 * clicks(num_samples, rng)
    return out


def hum(num_samples: int, rng: np.random.Generator) -> Wave:
    """Mains hum, an engine or a motor: harmonics of a slowly wandering pitch."""
    t = np.arange(num_samples) / RATE_HZ
    base = float(rng.choice([50.0, 60.0, rng.uniform(25, 250)]))
    drift = 1 + rng.uniform(0, 0.15) * np.sin(
        2 * np.pi * rng.uniform(0.05, 0.6) * t + rng.uniform(0, 6)
    )
    phase = 2 * np.pi * np.cumsum(base * drift) / RATE_HZ
    out = np.zeros(num_samples)
    for k in range(1, int(rng.integers(3, 30))):
        out += k ** -float(rng.uniform(0.3, 1.5)) * np.sin(k * phase + rng.uniform(0, 6))
    out += rng.uniform(0, 1) * out.std() * colored_noise(num_samples, rng)
    return out * _swell(num_samples, float(rng.uniform(0, 0.8)), float(rng.uniform(0.5, 25)), rng)


def cries(num_samples: int, rng: np.random.Generator) -> Wave:
    """Gliding harmonic calls without formant changes, as of animals and sirens."""
    t = np.arange(num_samples) / RATE_HZ
    base = float(np.exp(rng.uniform(np.log(250), np.log(1500))))
    bend = rng.uniform(0, 0.5) * np.sin(2 * np.pi * rng.uniform(0.3, 4) * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(base * 2**bend) / RATE_HZ
    out = np.zeros(num_samples)
    for k in range(1, min(12, int(7500 / base)) + 1):
        out += rng.uniform(0.2, 1) / k ** rng.uniform(0, 1) * np.sin(k * phase)
    out += rng.uniform(0, 0.5) * rng.standard_normal(num_samples)
    return out * _gates(num_samples, rng, (0.08, 1.5), (0.05, 1.0))


def _swell(num_samples: int, depth: float, rate_hz: float, rng: np.random.Generator) -> Wave:
    """A random slow gain between 1 - depth and 1."""
    points = max(2, int(num_samples / RATE_HZ * rate_hz * 2) + 2)
    curve = np.interp(
        np.linspace(0, points - 1, num_samples), np.arange(points), rng.random(points)
    )
    return np.asarray(1 - depth * curve)


def _gates(
    num_samples: int,
    rng: np.random.Generator,
    on_s: tuple[float, float],
    off_s: tuple[float, float],
) -> Wave:
    """A gain that switches between 0 and 1, regularly or not, with ramps or decays."""
    gain = np.zeros(num_samples)
    regular = rng.random() < 0.5
    on, off = float(rng.uniform(*on_s)), float(rng.uniform(*off_s))
    attack = int(RATE_HZ * float(rng.uniform(0.001, 0.05)))
    decay = 0.0 if rng.random() < 0.5 else float(rng.uniform(1, 12))
    at = int(rng.uniform(0, off) * RATE_HZ)
    while at < num_samples:
        if not regular:
            on, off = float(rng.uniform(*on_s)), float(rng.uniform(*off_s))
        n = np.arange(min(int(on * RATE_HZ), num_samples - at))
        ramp = np.minimum(1, np.minimum(n + 1, n[::-1] + 1) / attack)
        gain[at : at + len(n)] = ramp * np.exp(-decay * n / RATE_HZ) * rng.uniform(0.4, 1)
        at += max(1, int((on + off) * RATE_HZ))
    return gain


SOUNDS: Mapping[str, Callable[[int, np.random.Generator], Wave]] = {
    "noise": colored_noise,
    "band": band_noise,
    "bursts": noise_bursts,
    "clicks": clicks,
    "beeps": beeps,
    "melody": melody,
    "hum": hum,
    "cries": cries,
}
