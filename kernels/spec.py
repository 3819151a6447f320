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

LOG_MEAN, LOG_STD = -10.0, 4.0
MIN_FLOOR = 1e-30
"""Smallest `MelSpec.floor`: float32 still holds it."""

Mean = Annotated[float, Meta(ge=0, le=1)]
Std = Annotated[float, Meta(gt=0, le=1)]
Exponent = Annotated[float, Meta(gt=0, le=1)]
CompressedMean = Annotated[float, Meta(ge=-1e3, le=1e3)]
"""Of a compression's result."""
CompressedStd = Annotated[float, Meta(ge=1e-6, le=1e3)]


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A face image: RGB, planar (3, size, size) float32, `(pixel / 255 - mean) / std`."""

    mean: tuple[Mean, Mean, Mean] = (0.5, 0.5, 0.5)
    """Per-channel mean, R G B, on a 0..1 scale."""
    std: tuple[Std, Std, Std] = (0.25, 0.25, 0.25)
    """Per-channel standard deviation, R G B, on a 0..1 scale."""

    def __post_init__(self) -> None:
        _check_bounds("image", self)


class Pcen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pcen"):
    """Per-channel energy normalisation (Wang et al. 2017, arXiv:1607.05666).

    Each mel's power E is divided by its own recent mean M: `(E / (floor + M)^gain + bias)^exponent
    - bias^exponent`. M follows the power before it divides: `M += smoothing * (E - M)`. It starts
    at the power of the first column, of a recording as of a stream, and starts anew after a gap in
    the audio. The defaults are those of the paper.
    """

    smoothing: Annotated[float, Meta(ge=1e-4, le=1)] = 0.025
    """Weight of a new column in the mean: 40 columns of memory, 0.4 s at 100 columns a second."""
    gain: Annotated[float, Meta(ge=0, le=1)] = 0.98
    """1 removes a constant gain of the microphone altogether, 0 leaves it."""
    bias: Annotated[float, Meta(ge=0, le=100)] = 2.0
    exponent: Exponent = 0.5
    mean: CompressedMean = 0.2
    """Standardisation of the result, instead of `MelSpec.mean`."""
    std: CompressedStd = 0.5
    """The same for `MelSpec.std`."""

    def __post_init__(self) -> None:
        _check_bounds("pcen", self)


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="root"):
    """The power law of hearing, `(mel_power + floor)^exponent`.

    The exponent is 1/3 in PLP (Hermansky 1990, JASA 87:1738) and 1/15 in PNCC (Kim & Stern 2016,
    IEEE/ACM TASLP 24:1315).
    """

    exponent: Exponent = 1 / 15
    mean: CompressedMean = 0.55
    """Standardisation of the result, instead of `MelSpec.mean`."""
    std: CompressedStd = 0.18
    """The same for `MelSpec.std`."""

    def __post_init__(self) -> None:
        _check_bounds("root", self)


class MelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log-mel window: (num_mels, num_frames) float32, oldest column first.

    Columns lie on an absolute grid, one every `hop` samples: column k covers the samples
    `k * hop .. k * hop + window`. A column is `(ln(mel_power + floor) - mean) / std` of the
    pre-emphasised, Hann-windowed samples, or has another `compression` than the logarithm.
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
    floor: Annotated[float, Meta(ge=MIN_FLOOR, le=1)] = 1e-6
    """Added to the mel power before the logarithm or root, to its mean before PCEN divides by it;
    far below the noise of any microphone."""
    mean: Annotated[float, Meta(ge=-100, le=100)] = LOG_MEAN
    """Standardisation of the logarithm; another `compression` has its own."""
    std: Annotated[float, Meta(ge=1e-3, le=100)] = LOG_STD
    compression: Pcen | Root | msgspec.UnsetType = msgspec.UNSET
    """Of the dynamic range; unset: the natural logarithm. Unset, `bundle.json` does not name it,
    so that earlier versions read the bundle."""

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
        if self.compression and (self.mean, self.std) != (LOG_MEAN, LOG_STD):
            raise ValueError(
                f"mel mean {self.mean} and std {self.std} are those of the logarithm: set mean and"
                " std of mel compression"
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
        if not all(isinstance(each, int | float) for each in numbers):
            continue
        try:
            if any(isinstance(each, float) and math.isnan(each) for each in numbers):
                raise ValueError("a number is wanted")
            msgspec.convert(value, kind)
        except ValueError as error:
            raise ValueError(f"{title} {name} {value}: {error}") from error


@functools.cache
def _list_types(spec: type[msgspec.Struct]) -> dict[str, object]:
    return {field.name: field.type for field in msgspec.structs.fields(spec)}
