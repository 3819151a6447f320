"""Specifications of the networks' input: shape and scaling of face image and log-mel window.

A bundle stores both beside its models, so that a model always gets the preprocessing it was trained
with.
"""

from __future__ import annotations

import msgspec

MIN_FACE_PX = 32
MAX_FACE_PX = 512
LOG_MEAN, LOG_STD = -10.0, 4.0
MIN_FLOOR = 1e-30
"""Smallest `MelSpec.floor`: float32 still holds it."""
MAX_SCALING = 1e3
"""Limit of the mean and the standard deviation of a compression's result."""


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


class Pcen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pcen"):
    """Per-channel energy normalisation (Wang et al. 2017, arXiv:1607.05666).

    Each mel's power E is divided by its own recent mean M: `(E / (floor + M)^gain + bias)^exponent
    - bias^exponent`. M follows the power before it divides: `M += smoothing * (E - M)`. It starts
    at the power of the first column, of a recording as of a stream, and starts anew after a gap in
    the audio. The defaults are those of the paper.
    """

    smoothing: float = 0.025
    """Weight of a new column in the mean: 40 columns of memory, 0.4 s at 100 columns a second."""
    gain: float = 0.98
    """1 removes a constant gain of the microphone altogether, 0 leaves it."""
    bias: float = 2.0
    exponent: float = 0.5
    mean: float = 0.2
    """Standardisation of the result, instead of `MelSpec.mean`."""
    std: float = 0.5
    """The same for `MelSpec.std`."""

    def __post_init__(self) -> None:
        _check_compression(self)
        if not (1e-4 <= self.smoothing <= 1.0 and 0.0 <= self.gain <= 1.0):
            raise ValueError(
                f"pcen smoothing {self.smoothing} must lie in 1e-4..1, gain {self.gain} in 0..1"
            )
        if not 0.0 <= self.bias <= 100.0:
            raise ValueError(f"pcen bias {self.bias} must lie in 0..100")


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="root"):
    """The power law of hearing, `(mel_power + floor)^exponent`.

    The exponent is 1/3 in PLP (Hermansky 1990, JASA 87:1738) and 1/15 in PNCC (Kim & Stern 2016,
    IEEE/ACM TASLP 24:1315).
    """

    exponent: float = 1 / 15
    mean: float = 0.55
    """Standardisation of the result, instead of `MelSpec.mean`."""
    std: float = 0.18
    """The same for `MelSpec.std`."""

    def __post_init__(self) -> None:
        _check_compression(self)


def _check_compression(compression: Pcen | Root) -> None:
    kind = type(compression).__name__.lower()
    if not 0.0 < compression.exponent <= 1.0:
        raise ValueError(f"{kind} exponent {compression.exponent} must lie in 0..1 and not be 0")
    if not (abs(compression.mean) <= MAX_SCALING and 0.0 < compression.std <= MAX_SCALING):
        raise ValueError(
            f"{kind} mean {compression.mean} must lie in -{MAX_SCALING:g}..{MAX_SCALING:g}, std"
            f" {compression.std} in 0..{MAX_SCALING:g} and not be 0"
        )


class MelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log-mel window: (num_mels, num_frames) float32, oldest column first.

    Columns lie on an absolute grid, one every `hop` samples: column k covers the samples
    `k * hop .. k * hop + window`. A column is `(ln(mel_power + floor) - mean) / std` of the
    pre-emphasised, Hann-windowed samples, or has another `compression` than the logarithm.
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
    """Added to the mel power before the logarithm or root, to its mean before PCEN divides by it;
    far below the noise of any microphone."""
    mean: float = LOG_MEAN
    """Standardisation of the logarithm; another `compression` has its own."""
    std: float = LOG_STD
    compression: Pcen | Root | msgspec.UnsetType = msgspec.UNSET
    """Of the dynamic range; unset: the natural logarithm. Unset, `bundle.json` does not name it,
    so that earlier versions read the bundle."""

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
        if not 0.0 <= self.preemphasis < 1.0 or not self.floor >= MIN_FLOOR or self.std <= 0.0:
            raise ValueError(
                f"mel preemphasis {self.preemphasis} must lie in 0..1, floor {self.floor} be at"
                f" least {MIN_FLOOR} and std {self.std} above 0"
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
