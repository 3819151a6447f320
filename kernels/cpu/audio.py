"""What the CPU does to sound for every backend: makes samples safe, measures how loud they are,
and lays them out for a GPU.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

LEVEL_FLOOR = 1e-10
"""Added to the mean square before it becomes dB: digital silence is -100 dB."""

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


@_compiled
def sanitize_sample(sample):  # type: ignore[no-untyped-def]
    """What is not finite counts as silence, the rest is cut to full scale."""
    value = np.float64(sample)
    if not np.isfinite(value):
        value = np.float64(0.0)
    return min(max(value, -1.0), 1.0)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def level_db(audio, first, count):  # type: ignore[no-untyped-def]
    """dB of full scale of `audio[first : first + count]`; the sum may be reordered, so that it
    runs in vector lanes."""
    total = 0.0
    for n in range(first, first + count):
        value = np.float64(audio[n])
        total += value * value
    return 10.0 * np.log10(total / count + LEVEL_FLOOR)


@_compiled
def stage_samples(samples, audio, filled, staged, levels, column, window, hop):  # type: ignore[no-untyped-def]
    """Add `samples`, which must fit, to the `filled` ones of `audio` -> (filled, new columns).

    `audio` float32 begins with the sample before its first column. When columns are complete,
    their sound is copied to `staged`, at its beginning and as it lay in `audio`, their levels go
    into the ring `levels` (twice, see `mel_grid`) from number `column` on, and `audio` is moved on.
    """
    for n in range(len(samples)):
        audio[1 + filled + n] = sanitize_sample(samples[n])
    filled += len(samples)
    if filled < window:
        return filled, 0
    new = (filled - window) // hop + 1
    capacity = len(levels) // 2
    for n in range(1 + window + (new - 1) * hop):
        staged[n] = audio[n]
    for k in range(new):
        at = (column + k) % capacity
        level = level_db(audio, 1 + k * hop + window - hop, hop)
        levels[at] = level
        levels[at + capacity] = level
    filled -= new * hop
    for n in range(1 + filled):
        audio[n] = audio[n + new * hop]
    return filled, new


def compile_staging() -> None:
    """Compile, or load from the disk cache, so that no sound ever waits for the compiler."""
    if not stage_samples.signatures:
        floats = types.float32[::1]
        stage_samples.compile(
            types.UniTuple(types.int64, 2)(
                types.Array(types.float32, 1, "C", readonly=True),
                floats,
                types.int64,
                floats,
                floats,
                *[types.int64] * 3,
            )
        )
        # Writable arrays fit the version for read-only ones: nothing may ever compile another.
        stage_samples.disable_compile()
