"""Specifications of the networks' input: shape and scaling of face image and log-mel window.

A bundle stores both beside its models, so that a model always gets the preprocessing it was trained
with.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated

import msgspec
from msgspec import Meta

MIN_FACE_PX = 32
MAX_FACE_PX = 512
SAMPLE_RATE_HZ = 16_000
"""Of the audio that the device feeds. The kernels compute others too."""

Mean = Annotated[float, Meta(ge=0, le=1)]
Std = Annotated[float, Meta(gt=0, le=1)]


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A face image: RGB, planar (3, size, size) float32, `(pixel / 255 - mean) / std`."""

    mean: tuple[Mean, Mean, Mean] = (0.5, 0.5, 0.5)
    """Per-channel mean, R G B, on a 0..1 scale."""
    std: tuple[Std, Std, Std] = (0.25, 0.25, 0.25)
    """Per-channel standard deviation, R G B, on a 0..1 scale."""

    def __post_init__(self) -> None:
        _check_bounds("image", self)


class MelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log-mel window: (num_mels, num_frames) float32, oldest column first.

    Columns lie on an absolute grid, one every `hop` samples: column k covers the samples
    `k * hop .. k * hop + window`. A column is `(ln(mel_power + floor) - mean) / std` of the
    pre-emphasised, Hann-windowed samples.
    """

    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=48_000)] = SAMPLE_RATE_HZ
    window: Annotated[int, Meta(ge=1, le=4_096)] = 400
    """Samples in one analysis window (25 ms at 16 kHz)."""
    hop: Annotated[int, Meta(ge=1, le=4_096)] = 160
    """Samples from one column to the next (10 ms at 16 kHz)."""
    fft_size: Annotated[int, Meta(ge=32, le=4_096)] = 512
    num_mels: Annotated[int, Meta(ge=1, le=256)] = 64
    num_frames: Annotated[int, Meta(ge=1, le=3_000)] = 300
    """Columns in a window (300 = 3 s)."""
    low_hz: Annotated[float, Meta(ge=0, lt=24_000)] = 20.0
    high_hz: Annotated[float, Meta(gt=0, le=24_000)] = 8_000.0
    preemphasis: Annotated[float, Meta(ge=0, lt=1)] = 0.97
    floor: Annotated[float, Meta(ge=1e-30, le=1)] = 1e-6
    """Added to the mel power before the logarithm; far below the noise of any microphone."""
    mean: Annotated[float, Meta(ge=-100, le=100)] = -10.0
    std: Annotated[float, Meta(ge=1e-3, le=100)] = 4.0

    def __post_init__(self) -> None:
        _check_bounds("mel", self)
        if not self.hop <= self.window <= self.fft_size or self.fft_size & (self.fft_size - 1):
            raise ValueError(
                f"mel needs hop {self.hop} <= window {self.window} <= fft_size {self.fft_size},"
                " and fft_size a power of two"
            )
        if self.num_mels > self.fft_size // 2:
            raise ValueError(
                f"mel num_mels {self.num_mels} must be at most half of fft_size {self.fft_size}"
            )
        if not self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"mel band {self.low_hz}..{self.high_hz} Hz must lie in"
                f" 0..{self.sample_rate_hz / 2}"
            )

    @property
    def window_samples(self) -> int:
        """Number of samples that a window of `num_frames` columns covers."""
        return (self.num_frames - 1) * self.hop + self.window


def _check_bounds(title: str, spec: msgspec.Struct) -> None:
    """Check the bounds of the fields, which decoding does by itself. Raises ValueError."""
    for name, kind in _list_types(type(spec)).items():
        value = getattr(spec, name)
        numbers = value if isinstance(value, tuple) else (value,)
        try:
            if any(isinstance(each, float) and math.isnan(each) for each in numbers):
                raise ValueError("a number is wanted")
            msgspec.convert(value, kind)
        except ValueError as error:
            raise ValueError(f"{title} {name} {value}: {error}") from error


@functools.cache
def _list_types(spec: type[msgspec.Struct]) -> dict[str, object]:
    return {field.name: field.type for field in msgspec.structs.fields(spec)}
