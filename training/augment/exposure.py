"""Light and contrast of a whole grey picture, as a camera with too little of it would record.

In: a grey picture. Out: the picture under other light, again in 256 steps, with noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExposureSpec:
    """How far the light varies; shares are probabilities."""

    wide: float = 0.45
    """Any light of `gains` instead of a usual one."""
    gains: tuple[float, float] = (1 / 32, 3.0)
    flat: float = 0.2
    """Low contrast, down to `contrast`."""
    contrast: float = 0.07
    uneven: float = 0.3
    """Light from one side, by up to a factor of `slope`."""
    slope: float = 6.0
    noise: float = 0.6
    max_noise: float = 6.0
    """Largest standard deviation of the noise, in levels."""


def expose(image: Gray, spec: ExposureSpec, rng: np.random.Generator) -> Gray:
    """Return `image` under other light."""
    light: NDArray[np.floating] = image.astype(np.float32)
    height, width = image.shape
    if rng.random() < 0.3:
        light = 255 * (light / 255) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < spec.uneven:
        angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, np.log(spec.slope))
        x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(np.cos(angle) * slope)
        y = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(np.sin(angle) * slope)
        light *= np.exp(x)[None] * np.exp(y)[:, None]
    if rng.random() < spec.flat:
        contrast = np.float32(np.exp(rng.uniform(np.log(spec.contrast), 0)))
        middle = np.float32(rng.uniform(20, 235))
        light = middle + (light - light.mean()) * contrast
    low, high = spec.gains if rng.random() < spec.wide else (0.6, 1.5)
    gain = np.float32(np.exp(rng.uniform(np.log(low), np.log(high))))
    light *= gain
    if rng.random() < spec.noise:
        # What a camera adds in the dark is small against its steps, or nothing would be left.
        deviation = rng.uniform(0, spec.max_noise) * min(1.0, float(gain) * 2)
        light += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)
