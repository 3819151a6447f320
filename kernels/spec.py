"""Specifications of the networks' input: shape and scaling of face image and log-mel window.

A bundle stores both beside its models, so that a model always gets the preprocessing it was trained
with.
"""

from __future__ import annotations

import msgspec

MIN_FACE_PX = 32
MAX_FACE_PX = 512


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A face image: RGB, planar (3, size, size) float32, `(pixel / 255 - mean) / std`."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Per-channel mean, R G B, on a 0..1 scale."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Per-channel standard deviation, R G B, on a 0..1 scale."""

    def __post_init__(self) -> None:
        if not all(0.0 <= m <= 1.0 for m in self.mean):
            raise ValueError(f"image mean {self.mean} must lie in 0..1")
        if not all(0.0 < s <= 1.0 for s in self.std):
            raise ValueError(f"image std {self.std} must lie in 0..1 and not be 0")


class MelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log-mel window: (num_mels, num_frames) float32, oldest column first.

    Columns lie on an absolute grid, one every `hop` samples: column k covers the samples
    `k * hop .. k * hop + window`. A column is `(ln(mel_power + floor) - mean) / std` of the
    pre-emphasised, Hann-windowed samples.
    """

    sample_rate_hz: int = 16_000
    window: int = 400
    """Samples in one analysis window (25 ms at 16 kHz)."""
    hop: int = 160
    """Samples from one column to the next (10 ms at 16 kHz)."""
    fft_size: int = 512
    num_mels: int = 64
    num_frames: int = 300
    """Columns in a window (300 = 3 s)."""
    low_hz: float = 20.0
    high_hz: float = 8_000.0
    preemphasis: float = 0.97
    floor: float = 1e-6
    """Added to the mel power before the logarithm; far below the noise of any microphone."""
    mean: float = -10.0
    std: float = 4.0

    def __post_init__(self) -> None:
        if self.sample_rate_hz <= 0 or self.hop <= 0 or self.num_frames <= 0 or self.num_mels <= 0:
            raise ValueError("mel sample_rate_hz, hop, num_frames and num_mels must be positive")
        if not self.hop <= self.window <= self.fft_size or self.fft_size & (self.fft_size - 1):
            raise ValueError(
                f"mel needs hop {self.hop} <= window {self.window} <= fft_size {self.fft_size},"
                " and fft_size a power of two"
            )
        if self.fft_size < 32 or self.num_mels > self.fft_size // 2:
            raise ValueError(
                f"mel fft_size {self.fft_size} must be at least 32 and num_mels {self.num_mels}"
                " at most half of it"
            )
        if not 0.0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"mel band {self.low_hz}..{self.high_hz} Hz must lie in"
                f" 0..{self.sample_rate_hz / 2}"
            )
        if not 0.0 <= self.preemphasis < 1.0 or self.floor <= 0.0 or self.std <= 0.0:
            raise ValueError("mel preemphasis must lie in 0..1, floor and std above 0")

    @property
    def window_samples(self) -> int:
        """Number of samples that a window of `num_frames` columns covers."""
        return (self.num_frames - 1) * self.hop + self.window
