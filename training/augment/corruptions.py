"""Corruptions of audio and images: noise, reverberation, low light, blur, compression, occlusion.

In: audio samples, float32 (n,) of full scale 1, or an image, uint8 (H, W, 3) RGB. Out: a corrupted
copy of the same size. Random numbers come from the generator argument.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from ...kernels import Box

Audio = NDArray[np.float32]
Image = NDArray[np.uint8]

BLOCK_S = 0.02
ACTIVE_DB = 25.0
"""Blocks within this level of the loud ones are speech, the others pauses."""
SILENT = 1e-4
"""A block whose samples never exceed this is digital silence."""
GAMMA = 2.2
WHITE_ELECTRONS = 1000.0
"""Electrons that a pixel of a small camera collects from white in good light."""
READ_ELECTRONS = 3.0
"""Read noise of the pixel."""
REVERB_DELAY_S = 0.002
"""Delay of the first reflection after the direct sound."""


def measure_speech(audio: Audio, sample_rate_hz: int) -> float:
    """Return the root mean square of the speech: of the blocks of 20 ms within 25 dB of the loud
    ones (95th percentile). 0 for silence."""
    size = round(BLOCK_S * sample_rate_hz)
    blocks = audio[: len(audio) // size * size].reshape(-1, size).astype(np.float64)
    power = np.square(blocks).mean(axis=1) if len(blocks) else np.square(audio, dtype=np.float64)
    if not power.size or power.max() < SILENT**2:
        return 0.0
    loud = np.percentile(power, 95)
    return float(np.sqrt(power[power >= loud * 10 ** (-ACTIVE_DB / 10)].mean()))


def cut_silence(audio: Audio, sample_rate_hz: int) -> Audio:
    """Remove blocks of digital silence, which would lower the level of a noise."""
    size = round(BLOCK_S * sample_rate_hz)
    blocks = audio[: len(audio) // size * size].reshape(-1, size)
    return blocks[np.abs(blocks).max(axis=1) > SILENT].reshape(-1)


def make_noise(color: str, num_samples: int, rng: np.random.Generator) -> Audio:
    """Make white or pink noise (power falls as 1 / f) of root mean square 1."""
    noise = rng.standard_normal(num_samples)
    if color == "pink":
        tilt = 1.0 / np.sqrt(np.arange(1, num_samples // 2 + 2))
        noise = np.fft.irfft(np.fft.rfft(noise) * tilt, num_samples)
    return (noise / np.sqrt(np.square(noise).mean())).astype(np.float32)


def add_noise(
    audio: Audio, noise: Audio, snr_db: float, sample_rate_hz: int, rng: np.random.Generator
) -> Audio:
    """Add a random section of `noise` (repeated when shorter), `snr_db` below the power of the
    speech. The sum is scaled down if it exceeds full scale."""
    if not len(noise) or not noise.any():
        raise ValueError("noise is silent: its level cannot be set")
    start = int(rng.integers(len(noise)))
    repeats = -(-(start + len(audio)) // len(noise))
    section = np.tile(noise, repeats)[start : start + len(audio)].astype(np.float64)
    rms = np.sqrt(np.square(section).mean()) or np.sqrt(np.square(noise).mean())
    level = measure_speech(audio, sample_rate_hz) * 10 ** (-snr_db / 20)
    return _fit_scale(audio + section * (level / rms))


def make_response(rt60_s: float, sample_rate_hz: int, rng: np.random.Generator) -> Audio:
    """Make the impulse response of a room whose sound decays by 60 dB in `rt60_s`: the direct sound
    and, with the same energy, exponentially decaying noise (Polack 1988)."""
    count = round(rt60_s * sample_rate_hz)
    tail = rng.standard_normal(count) * 10 ** (-3.0 * np.arange(count) / count)
    tail[: round(REVERB_DELAY_S * sample_rate_hz)] = 0.0
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def measure_rt60(response: Audio, sample_rate_hz: int) -> float:
    """Return the seconds in which the sound of a room decays by 60 dB: three times the decay from
    -5 to -25 dB of the backward-integrated energy (Schroeder 1965; ISO 3382's T20)."""
    energy = np.square(response[int(np.abs(response).argmax()) :], dtype=np.float64)
    remaining = energy[::-1].cumsum()[::-1]
    db = 10 * np.log10(np.maximum(remaining / remaining[0], 1e-12))
    return float(3 * ((db <= -25).argmax() - (db <= -5).argmax()) / sample_rate_hz)


def reverberate(audio: Audio, response: Audio, sample_rate_hz: int) -> Audio:
    """Convolve `audio` with a room's impulse response. The direct sound keeps its time, the speech
    its level."""
    wet = fftconvolve(audio.astype(np.float64), response.astype(np.float64))
    wet = wet[int(np.abs(response).argmax()) :][: len(audio)]
    after = measure_speech(wet.astype(np.float32), sample_rate_hz)
    gain = measure_speech(audio, sample_rate_hz) / after if after else 1.0
    return _fit_scale(wet * gain)


def _fit_scale(audio: NDArray[np.float64]) -> Audio:
    return (audio / max(1.0, float(np.abs(audio).max(initial=0.0)))).astype(np.float32)


def darken_image(image: Image, stops: float, rng: np.random.Generator) -> Image:
    """Simulate 1 / 2 ** `stops` of the light and a camera whose gain compensates half of the stops:
    a darker image with shot and read noise."""
    light = (image.astype(np.float32) / 255.0) ** GAMMA
    electrons = light * (WHITE_ELECTRONS * 2.0**-stops)
    sigma = np.sqrt(electrons + READ_ELECTRONS**2)
    electrons += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    exposed = electrons / (WHITE_ELECTRONS * 2.0 ** (-stops / 2))
    coded = 255.0 * np.clip(exposed, 0.0, 1.0) ** (1.0 / GAMMA)
    return np.asarray(np.rint(coded), np.uint8)


def blur_image(image: Image, sigma_px: float) -> Image:
    """Blur with a Gaussian kernel, edges repeated."""
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), np.uint8
    )


def compress_image(image: Image, quality: int) -> Image:
    """Encode as JPEG of `quality` 1 to 100 and decode again."""
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def occlude_image(image: Image, box: Box, share: float, rng: np.random.Generator) -> Image:
    """Cover `share` of the area of a face box with a grey square, turned like it, at a random
    position in it."""
    x, y, side, roll = box
    extent = side * np.sqrt(share)
    left, top = np.array([x, y]) + rng.random(2) * (side - extent)
    out = image.copy()
    if roll:
        centre = (x + side / 2, y + side / 2)
        turn = cv2.getRotationMatrix2D(centre, -np.degrees(roll), 1.0)
        corners = left + np.array([0, extent, extent, 0]), top + np.array([0, 0, extent, extent])
        turned = turn @ np.stack([*corners, np.ones(4)])
        cv2.fillConvexPoly(out, np.rint(turned.T).astype(np.int32), (128, 128, 128))
        return out
    rows = slice(max(0, round(top)), max(0, round(top + extent)))
    out[rows, max(0, round(left)) : max(0, round(left + extent))] = 128
    return out
