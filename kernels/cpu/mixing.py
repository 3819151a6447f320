"""The mix of several audio channels to one, sample by sample; `channel_mixer` describes it."""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import types

from .audio import sanitize_sample

EMPHASIS = 0.97
"""A channel's level is the power of x[n] - 0.97 x[n - 1]: rumble and hum count little."""
FLOOR_BLOCKS = 200
"""Blocks of 10 ms after which a minimum of the level is forgotten; at most twice as many."""
FLOOR_GAIN = 2.0
"""Power up to this multiple of its minimum is steady noise."""
NOISE_WEIGHT = 0.01
"""Weight of the whole power in the score: it decides while all channels are steady."""
ATTACK, RELEASE = 0.3, 0.005
"""Change of the score in a block: 30 ms up, 2 s down."""
SWITCH_RATIO = 2.0
"""Ratio of scores from which another channel becomes the reference."""
JOIN_RATIO, LEAVE_RATIO = 0.1, 0.05
"""Score, relative to the reference's, from which a channel joins the mix, and under which it
leaves."""
CORRELATION_BLOCKS = 50
"""Memory of the correlation with the reference."""
OPPOSITE, ALIKE = -0.5, 0.0
"""Correlation with the reference below which a channel is turned, and above which it is turned
back."""

MEAN, LAST, DIFFERENCE, POWER, CROSS, WEIGHT, TARGET = 0, 1, 2, 3, 4, 5, 6
FLOOR, FLOOR_BEFORE, SCORE, SIGN, LONG_POWER, LONG_CROSS = 7, 8, 9, 10, 11, 12
NUM_ROWS = 13
"""Rows of the state. Each has a number per channel."""
NUM_SAMPLES, IN_BLOCK, NUM_BLOCKS, NUM_CORRELATED, REFERENCE = 0, 1, 2, 3, 4
NUM_COUNTS = 5

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


@_compiled
def mix_samples(samples, out, state, counts, block, dc_gain):  # type: ignore[no-untyped-def]
    """Mix `samples` (n, channels) into `out` (n,).

    `state` (NUM_ROWS, channels) and `counts` (NUM_COUNTS,) go on from call to call. `block` is the
    number of samples in 10 ms, `dc_gain` the final gain of the mean.
    """
    channels = samples.shape[1]
    for n in range(len(samples)):
        counts[NUM_SAMPLES] += 1
        # At first it is the mean of all samples, so a constant offset never shows.
        gain = max(1.0 / counts[NUM_SAMPLES], dc_gain)
        share = 1.0 / (block - counts[IN_BLOCK])
        mixed = 0.0
        for c in range(channels):
            raw = sanitize_sample(samples[n, c])
            state[MEAN, c] += gain * (raw - state[MEAN, c])
            value = raw - state[MEAN, c]
            state[DIFFERENCE, c] = value - EMPHASIS * state[LAST, c]
            state[LAST, c] = value
            # Within one block the weight reaches its target on a straight line.
            state[WEIGHT, c] += share * (state[TARGET, c] - state[WEIGHT, c])
            mixed += state[WEIGHT, c] * value
        out[n] = mixed
        lead = state[DIFFERENCE, counts[REFERENCE]]
        for c in range(channels):
            state[POWER, c] += state[DIFFERENCE, c] * state[DIFFERENCE, c]
            state[CROSS, c] += state[DIFFERENCE, c] * lead
        counts[IN_BLOCK] += 1
        if counts[IN_BLOCK] == block:
            counts[IN_BLOCK] = 0
            if channels > 1:
                _weigh_channels(state, counts, block)


@_compiled
def _weigh_channels(state, counts, block):  # type: ignore[no-untyped-def]
    """Set the targets of all weights from the block that has ended."""
    channels = state.shape[1]
    is_turn = counts[NUM_BLOCKS] % FLOOR_BLOCKS == 0
    counts[NUM_BLOCKS] += 1
    counts[NUM_CORRELATED] += 1
    memory = 1.0 / min(counts[NUM_CORRELATED], CORRELATION_BLOCKS)
    reference = counts[REFERENCE]
    for c in range(channels):
        power, cross = state[POWER, c] / block, state[CROSS, c] / block
        state[POWER, c] = state[CROSS, c] = 0.0
        state[LONG_POWER, c] += memory * (power - state[LONG_POWER, c])
        state[LONG_CROSS, c] += memory * (cross - state[LONG_CROSS, c])
        if is_turn:
            state[FLOOR_BEFORE, c], state[FLOOR, c] = state[FLOOR, c], power
        state[FLOOR, c] = min(state[FLOOR, c], power)
        floor = min(state[FLOOR, c], state[FLOOR_BEFORE, c])
        score = max(0.0, power - FLOOR_GAIN * floor) + NOISE_WEIGHT * power
        state[SCORE, c] += (ATTACK if score > state[SCORE, c] else RELEASE) * (
            score - state[SCORE, c]
        )
        product = state[LONG_POWER, c] * state[LONG_POWER, reference]
        # The reference may come later in this loop than `c`: one block more in one of the two
        # powers does not matter.
        correlation = state[LONG_CROSS, c] / math.sqrt(product) if product > 0.0 else 0.0
        if correlation < OPPOSITE:
            state[SIGN, c] = -state[SIGN, reference]
        elif correlation > ALIKE:
            state[SIGN, c] = state[SIGN, reference]
    best = np.argmax(state[SCORE])
    if state[SCORE, best] > SWITCH_RATIO * state[SCORE, reference]:
        reference = counts[REFERENCE] = best
        counts[NUM_CORRELATED] = 0
    highest = state[SCORE, reference]
    count = 0
    for c in range(channels):
        ratio = LEAVE_RATIO if state[TARGET, c] != 0.0 else JOIN_RATIO
        state[TARGET, c] = state[SIGN, c] if state[SCORE, c] >= ratio * highest else 0.0
        count += state[TARGET, c] != 0.0
    for c in range(channels):
        state[TARGET, c] /= count


def compile_mixing() -> None:
    """Compile the kernels, or load them from the disk cache, before the first audio arrives."""
    if not mix_samples.signatures:
        doubles = types.float64[:, ::1]
        mix_samples.compile(
            types.void(
                types.Array(types.float32, 2, "C", readonly=True),
                types.float32[::1],
                doubles,
                types.int64[::1],
                types.int64,
                types.float64,
            )
        )
        # Writable arrays match the read-only signature too: no call may compile a second version.
        mix_samples.disable_compile()
