"""The streaming log-mel compiled for the CPU: every column is computed once, when its last
sample arrives. Double precision inside, as the quiet bands beside a loud tone need it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from ..mel_grid import MelGrid
from ..reference import hann_window, mel_filters
from ..spec import MelSpec
from .audio import level_db, sanitize_sample
from .fft import complex_fft, twiddles
from .simd import LANES, load4, splat4, store4, transpose4

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


def pack_filters(spec: MelSpec) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The non-zero part of each triangle, cut into fours: (num_mels, 3) first bin, end bin,
    offset, up to a multiple of four with empty rows; and the weights, padded with zeros."""
    rows, weights = [], []
    offset = 0
    for triangle in mel_filters(spec):
        bins = np.flatnonzero(triangle)
        first, end = (int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 0)
        padded = -(-(end - first) // LANES) * LANES
        rows.append((first, first + padded, offset))
        weights.append(np.pad(triangle[first:end], (0, padded - (end - first))))
        offset += padded
    rows += [(0, 0, 0)] * (-len(rows) % LANES)  # four bands are computed at a time
    return np.array(rows, np.int64), np.concatenate(weights)


@_compiled
def mel_column(  # type: ignore[no-untyped-def]
    audio, preemphasis, floor, mean, std, hann, turns, triangles, weights, work, out
):
    """One column, `out` (num_mels,), of `audio` (1 + window,), whose first sample is the one
    before the window."""
    size = turns.shape[
        1
    ]  # half the FFT: even samples are its real part, odd ones its imaginary part
    re, im, re2, im2, power = work[0], work[1], work[2], work[3], work[4]
    half = len(hann) // 2
    for n in range(half):
        k = 2 * n + 1
        re[n] = (audio[k] - preemphasis * audio[k - 1]) * hann[k - 1]
        im[n] = (audio[k + 1] - preemphasis * audio[k]) * hann[k]
    for n in range(half, size):
        re[n] = 0.0
        im[n] = 0.0
    if len(hann) % 2:
        k = len(hann)
        re[half] = (audio[k] - preemphasis * audio[k - 1]) * hann[k - 1]
    re, im = complex_fft(size, re, im, re2, im2, turns)
    cos, sin = turns[0], turns[1]
    power[0] = (re[0] + im[0]) ** 2
    power[size] = (re[0] - im[0]) ** 2
    for k in range(1, size):
        mirror = size - k
        even_re, even_im = re[k] + re[mirror], im[k] - im[mirror]
        odd_re, odd_im = im[k] + im[mirror], re[mirror] - re[k]
        x = even_re + odd_re * cos[k] - odd_im * sin[k]
        y = even_im + odd_re * sin[k] + odd_im * cos[k]
        power[k] = 0.25 * (x * x + y * y)
    for m in range(0, len(out), LANES):
        a, b, c, d = transpose4(
            _fuse(power, triangles, weights, m),
            _fuse(power, triangles, weights, m + 1),
            _fuse(power, triangles, weights, m + 2),
            _fuse(power, triangles, weights, m + 3),
        )
        store4(work[0], m, (a + b) + (c + d))
    for m in range(len(out)):
        out[m] = (np.log(np.float32(work[0, m] + floor)) - mean) / std


@_compiled
def _fuse(power, triangles, weights, m):  # type: ignore[no-untyped-def]
    """Band `m`: its four partial sums."""
    first, end, offset = triangles[m, 0], triangles[m, 1], triangles[m, 2]
    total = splat4(0.0)
    for k in range(first, end, LANES):
        total = total + load4(power, k) * load4(weights, offset + k - first)
    return total


@_compiled
def push_samples(  # type: ignore[no-untyped-def]
    samples,
    audio,
    filled,
    column,
    hop,
    columns,
    levels,
    preemphasis,
    floor,
    mean,
    std,
    hann,
    turns,
    triangles,
    weights,
    work,
    newest,
):
    """Add `samples` and compute the columns they complete -> (filled, column), both updated.

    `audio` (1 + window,) holds the sample before the window, then `filled` samples of it.
    `columns` (num_mels, 2 capacity) and `levels` (2 capacity,) are rings written twice, so that
    any stretch of `capacity` columns lies in one piece.
    """
    window = len(hann)
    capacity = len(levels) // 2
    taken = 0
    while taken < len(samples):
        count = min(window - filled, len(samples) - taken)
        for n in range(count):
            audio[1 + filled + n] = sanitize_sample(samples[taken + n])
        filled += count
        taken += count
        if filled == window:
            mel_column(
                audio,
                preemphasis,
                floor,
                mean,
                std,
                hann,
                turns,
                triangles,
                weights,
                work,
                newest,
            )
            at = column % capacity
            for m in range(len(newest)):
                columns[m, at] = newest[m]
                columns[m, at + capacity] = newest[m]
            level = level_db(audio, 1 + window - hop, hop)
            levels[at] = level
            levels[at + capacity] = level
            column += 1
            for n in range(1 + window - hop):
                audio[n] = audio[n + hop]
            filled = window - hop
    return filled, column


class StreamingLogMel(MelGrid):
    """Log-mel columns of one stream of sound, on the hop grid of its sample numbers.

    Equal to `reference.log_mel` of the whole stream whatever the chunks. Pushing and taking a
    window allocate nothing. One thread only.
    """

    def __init__(self, spec: MelSpec) -> None:
        half = spec.fft_size // 2
        super().__init__(spec, np.zeros(1 + spec.window))
        self._columns = np.zeros((spec.num_mels, 2 * self._capacity), np.float32)
        self._scratch = np.zeros((5, half + 1 + LANES)), np.zeros(spec.num_mels, np.float32)
        self._constants = (
            *(spec.preemphasis, spec.floor, spec.mean, spec.std),
            hann_window(spec),
            twiddles(half),
            *pack_filters(spec),
        )
        self._mel = np.zeros((1, spec.num_mels, spec.num_frames), np.float32)
        self._mask = np.zeros((1, spec.num_frames), np.float32)

    def push(self, samples: NDArray[np.float32]) -> int:
        """Add the next samples (n,) -> how many new columns they completed."""
        before = self._num_columns
        self._filled, self._num_columns = push_samples(
            self._align_to_grid(samples),
            self._audio,
            self._filled,
            before,
            self.spec.hop,
            self._columns,
            self._levels,
            *self._constants,
            *self._scratch,
        )
        return int(self._num_columns - before)

    def window(self, end_column: int | None = None) -> tuple[Any, Any]:
        """The window that ends before `end_column` (default: the newest).

        -> mel (1, num_mels, num_frames) and mask (1, num_frames), which is 0 where there was no
        sound yet (there mel is 0). Both are reused by the next call. Columns no longer kept are
        an IndexError.
        """
        start, count = self._span(end_column)
        missing = self.spec.num_frames - count
        self._mel[0, :, :missing] = 0.0
        self._mel[0, :, missing:] = self._columns[:, start : start + count]
        self._mask[0, :missing] = 0.0
        self._mask[0, missing:] = 1.0
        return self._mel, self._mask

    def wipe(self) -> None:
        """Overwrite everything heard with zeros."""
        self.restart(0)
        windows = (self._mel, self._mask)
        for array in (self._audio, self._columns, self._levels, *windows, *self._scratch):
            array.fill(0)


def compile_push() -> None:
    """Compile, or load from the disk cache, so that no sound ever waits for the compiler."""
    if not push_samples.signatures:
        doubles, floats = types.float64[::1], types.float32[::1]
        push_samples.compile(
            types.UniTuple(types.int64, 2)(
                types.Array(types.float32, 1, "C", readonly=True),
                doubles,
                *[types.int64] * 3,
                types.float32[:, ::1],
                floats,
                *[types.float64] * 4,
                doubles,
                types.float64[:, ::1],
                types.int64[:, ::1],
                doubles,
                types.float64[:, ::1],
                floats,
            )
        )
        # Writable arrays fit the version for read-only ones: nothing may ever compile another.
        push_samples.disable_compile()
