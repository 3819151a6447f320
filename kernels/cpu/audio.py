"""Audio kernels that run on the CPU for every backend: sanitize samples, measure levels, and stage
samples for the GPU.
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
    """Return 0 for a sample that is not finite, else the sample clipped to full scale."""
    value = np.float64(sample)
    if not np.isfinite(value):
        value = np.float64(0.0)
    return min(max(value, -1.0), 1.0)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def level_db(audio, first, count):  # type: ignore[no-untyped-def]
    """Return the level of `audio[first : first + count]` in dBFS.

    The sum may be reordered, so that it runs in vector lanes.
    """
    total = 0.0
    for n in range(first, first + count):
        value = np.float64(audio[n])
        total += value * value
    return 10.0 * np.log10(total / count + LEVEL_FLOOR)


@_compiled
def stage_samples(samples, audio, filled, staged, levels, column, window, hop):  # type: ignore[no-untyped-def]
    """Append `samples` to the `filled` samples of `audio` -> (filled, number of new columns).

    `audio` float32 begins with the sample before its first column and must have room. When columns
    are complete, their samples are copied to the start of `staged`, in the layout of `audio`, and
    their levels into the ring `levels` (twice, see `mel_grid`) from number `column` on. Then
    `audio` is shifted to the next column.
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
    """Compile the kernels, or load them from the disk cache, before the first audio arrives."""
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
        # Writable arrays match the read-only signature too: no call may compile a second version.
        stage_samples.disable_compile()
