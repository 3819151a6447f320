"""What spoils a recording: noise, rooms, poor light, blur, compression, things in the way.

In: raw samples, float32 (n,) of full scale 1, or a raw picture, uint8 (H, W, 3) RGB, as a
microphone or a camera gives them. Out: the same, spoilt, same size. Nothing is changed in place;
chance comes from the generator that is passed in.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

Audio = NDArray[np.float32]
Image = NDArray[np.uint8]
Box = tuple[float, float, float]
"""x, y of the upper left corner and side of a square, in pixels."""

BLOCK_S = 0.02
ACTIVE_DB = 25.0
"""Blocks within so much of the loud ones are speech; the rest is a pause."""
SILENT = 1e-4
"""A block that never exceeds this is digital silence."""
GAMMA = 2.2
WHITE_ELECTRONS = 1000.0
"""What a small camera's pixel collects from white in good light, and its noise of reading out."""
READ_ELECTRONS = 3.0
REVERB_DELAY_S = 0.002
"""The first reflection comes after the direct sound."""


def measure_speech(audio: Audio, sample_rate_hz: int) -> float:
    """Root mean square over the blocks of 20 ms in which somebody speaks: those within 25 dB of
    the loud ones (95th percentile). 0 when all is silent."""
    size = round(BLOCK_S * sample_rate_hz)
    blocks = audio[: len(audio) // size * size].reshape(-1, size).astype(np.float64)
    power = np.square(blocks).mean(axis=1) if len(blocks) else np.square(audio, dtype=np.float64)
    if not power.size or power.max() < SILENT**2:
        return 0.0
    loud = np.percentile(power, 95)
    return float(np.sqrt(power[power >= loud * 10 ** (-ACTIVE_DB / 10)].mean()))


def cut_silence(audio: Audio, sample_rate_hz: int) -> Audio:
    """Without its blocks of digital silence: a noise with gaps would be quieter than it says."""
    size = round(BLOCK_S * sample_rate_hz)
    blocks = audio[: len(audio) // size * size].reshape(-1, size)
    return blocks[np.abs(blocks).max(axis=1) > SILENT].reshape(-1)


def make_noise(color: str, num_samples: int, rng: np.random.Generator) -> Audio:
    """White or pink noise (power falls as 1 / f), root mean square 1."""
    noise = rng.standard_normal(num_samples)
    if color == "pink":
        tilt = 1.0 / np.sqrt(np.arange(1, num_samples // 2 + 2))
        noise = np.fft.irfft(np.fft.rfft(noise) * tilt, num_samples)
    return (noise / np.sqrt(np.square(noise).mean())).astype(np.float32)


def add_noise(
    audio: Audio, noise: Audio, snr_db: float, sample_rate_hz: int, rng: np.random.Generator
) -> Audio:
    """`audio` with a random stretch of `noise` (repeated when shorter), its power `snr_db` below
    that of the speech. As a whole it is turned down where it would exceed full scale."""
    if not len(noise) or not noise.any():
        raise ValueError("a noise that is silent has no level to be set")
    start = int(rng.integers(len(noise)))
    repeats = -(-(start + len(audio)) // len(noise))
    stretch = np.tile(noise, repeats)[start : start + len(audio)].astype(np.float64)
    rms = np.sqrt(np.square(stretch).mean()) or np.sqrt(np.square(noise).mean())
    level = measure_speech(audio, sample_rate_hz) * 10 ** (-snr_db / 20)
    return _fit_scale(audio + stretch * (level / rms))


def make_response(rt60_s: float, sample_rate_hz: int, rng: np.random.Generator) -> Audio:
    """Impulse response of a room in which sound falls by 60 dB in `rt60_s`: the direct sound and,
    with the same energy, noise that decays exponentially (Polack 1988)."""
    count = round(rt60_s * sample_rate_hz)
    tail = rng.standard_normal(count) * 10 ** (-3.0 * np.arange(count) / count)
    tail[: round(REVERB_DELAY_S * sample_rate_hz)] = 0.0
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def measure_rt60(response: Audio, sample_rate_hz: int) -> float:
    """Seconds in which the sound of a room falls by 60 dB: three times its fall from -5 to -25 dB,
    by the energy that is still to come (Schroeder 1965; ISO 3382's T20)."""
    energy = np.square(response[int(np.abs(response).argmax()) :], dtype=np.float64)
    left = energy[::-1].cumsum()[::-1]
    db = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    return float(3 * ((db <= -25).argmax() - (db <= -5).argmax()) / sample_rate_hz)


def reverberate(audio: Audio, response: Audio, sample_rate_hz: int) -> Audio:
    """`audio` as heard in a room, the direct sound where it was and the speech as loud as it
    was."""
    wet = fftconvolve(audio.astype(np.float64), response.astype(np.float64))
    wet = wet[int(np.abs(response).argmax()) :][: len(audio)]
    after = measure_speech(wet.astype(np.float32), sample_rate_hz)
    gain = measure_speech(audio, sample_rate_hz) / after if after else 1.0
    return _fit_scale(wet * gain)


def _fit_scale(audio: NDArray[np.float64]) -> Audio:
    return (audio / max(1.0, float(np.abs(audio).max(initial=0.0)))).astype(np.float32)


def darken_image(image: Image, stops: float, rng: np.random.Generator) -> Image:
    """The scene with 1 / 2 ** `stops` of the light, by a camera whose gain makes up for half of
    the stops: darker, and with the noise of few electrons (shot and read noise)."""
    light = (image.astype(np.float32) / 255.0) ** GAMMA
    electrons = light * (WHITE_ELECTRONS * 2.0**-stops)
    sigma = np.sqrt(electrons + READ_ELECTRONS**2)
    electrons += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    seen = electrons / (WHITE_ELECTRONS * 2.0 ** (-stops / 2))
    coded = 255.0 * np.clip(seen, 0.0, 1.0) ** (1.0 / GAMMA)
    return np.asarray(np.rint(coded), np.uint8)


def blur_image(image: Image, sigma_px: float) -> Image:
    """Gaussian blur, edges repeated."""
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), np.uint8
    )


def compress_image(image: Image, quality: int) -> Image:
    """JPEG there and back, `quality` 1 to 100."""
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def occlude_image(image: Image, box: Box, share: float, rng: np.random.Generator) -> Image:
    """A grey square over `share` of the face's area, anywhere within its box."""
    x, y, side = box
    extent = side * np.sqrt(share)
    left, top = np.array([x, y]) + rng.random(2) * (side - extent)
    out = image.copy()
    rows = slice(max(0, round(top)), max(0, round(top + extent)))
    out[rows, max(0, round(left)) : max(0, round(left + extent))] = 128
    return out
