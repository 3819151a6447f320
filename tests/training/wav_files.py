"""WAV files of given or random samples."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_wav(
    path: Path, samples: NDArray[np.int16], rate_hz: int = 16_000, num_channels: int = 1
) -> Path:
    """Write the same samples to every channel, in a folder that is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat(samples.astype("<i2"), num_channels).tobytes())
    return path


def make_noise(seed: int = 0, seconds: float = 0.2, rate_hz: int = 16_000) -> NDArray[np.int16]:
    """Make mono noise; equal seeds give equal samples."""
    rng = np.random.default_rng(seed)
    return rng.integers(-9_000, 9_000, round(seconds * rate_hz), np.int16)


def write_noise(path: Path, seed: int = 0, seconds: float = 0.2, rate_hz: int = 16_000) -> Path:
    """Write the noise of `make_noise`."""
    return write_wav(path, make_noise(seed, seconds, rate_hz), rate_hz)
