"""The streaming log-mel on the CPU: audio samples in, a window of log-mel columns out.

Each column is computed once, when its last sample arrives. The computation is in float64, because
float32 gets quiet bands beside a loud tone wrong.
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
from .compression import compress_column, pack_compression
from .fft import complex_fft, twiddles
from .simd import LANES, load4, splat4, store4, transpose4

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


def pack_filters(spec: MelSpec) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the mel filters without their zeros: triangles (bands, 3) and weights.

    A row of triangles is first bin, end bin, offset into the weights. The number of bands and each
    filter's length are padded with zeros to multiples of four.
    """
    rows, weights = [], []
    offset = 0
    for triangle in mel_filters(spec):
        bins = np.flatnonzero(triangle)
        first, end = (int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 0)
        padded = -(-(end - first) // LANES) * LANES
        rows.append((first, first + padded, offset))
        weights.append(np.pad(triangle[first:end], (0, padded - (end - first))))
        offset += padded
    rows += [(0, 0, 0)] * (
        -len(rows) % LANES
    )  # for `mel_power`, which computes four bands at a time
    return np.array(rows, np.int64), np.concatenate(weights)


@_compiled
def mel_power(audio, preemphasis, hann, turns, triangles, weights, work):  # type: ignore[no-untyped-def]
    """Compute the mel power of a column, `work[0]`, from `audio` (1 + window,).

    The first sample of `audio` is the one before the window. A real FFT of n points is computed as
    a complex one of n / 2: even samples are its real part, odd samples its imaginary part.
    """
    size = turns.shape[1]
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
    for m in range(0, len(triangles), LANES):
        a, b, c, d = transpose4(
            _sum_band(power, triangles, weights, m),
            _sum_band(power, triangles, weights, m + 1),
            _sum_band(power, triangles, weights, m + 2),
            _sum_band(power, triangles, weights, m + 3),
        )
        store4(work[0], m, (a + b) + (c + d))


@_compiled
def _sum_band(power, triangles, weights, m):  # type: ignore[no-untyped-def]
    """Return four partial sums of band `m`."""
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
    first_column,
    hop,
    columns,
    levels,
    preemphasis,
    hann,
    turns,
    triangles,
    weights,
    compression,
    settings,
    smooth,
    work,
    newest,
):
    """Append `samples` and compute the columns they complete -> new (filled, column).

    `audio` (1 + window,) holds the sample before the window, then `filled` samples of it.
    `columns` (num_mels, 2 capacity) and `levels` (2 capacity,) are rings that store each column
    twice, so that any `capacity` columns in a row are contiguous.
    """
    window = len(hann)
    capacity = len(levels) // 2
    done = 0
    while done < len(samples):
        count = min(window - filled, len(samples) - done)
        for n in range(count):
            audio[1 + filled + n] = sanitize_sample(samples[done + n])
        filled += count
        done += count
        if filled == window:
            mel_power(audio, preemphasis, hann, turns, triangles, weights, work)
            is_first = column == first_column
            compress_column(work[0], compression, settings, is_first, smooth, newest)
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
    """Log-mel columns of one audio stream, on the hop grid of its sample numbers.

    Equal to `reference.log_mel` of the whole stream, however it is cut into chunks. `push` and
    `window` allocate nothing. For one thread.
    """

    def __init__(self, spec: MelSpec) -> None:
        half = spec.fft_size // 2
        super().__init__(spec, np.zeros(1 + spec.window))
        self._columns = np.zeros((spec.num_mels, 2 * self._capacity), np.float32)
        self._smooth = np.zeros(spec.num_mels)
        self._scratch = np.zeros((5, half + 1 + LANES)), np.zeros(spec.num_mels, np.float32)
        self._constants = (
            spec.preemphasis,
            hann_window(spec),
            twiddles(half),
            *pack_filters(spec),
            *pack_compression(spec),
        )
        self._mel = np.zeros((1, spec.num_mels, spec.num_frames), np.float32)
        self._mask = np.zeros((1, spec.num_frames), np.float32)

    def push(self, samples: NDArray[np.float32]) -> int:
        """Append the next samples (n,) -> the number of columns they completed."""
        before = self._num_columns
        self._filled, self._num_columns = push_samples(
            self._align_to_grid(samples),
            self._audio,
            self._filled,
            before,
            self.first_column,
            self.spec.hop,
            self._columns,
            self._levels,
            *self._constants,
            self._smooth,
            *self._scratch,
        )
        return int(self._num_columns - before)

    def window(self, end_column: int | None = None) -> tuple[Any, Any]:
        """Return the window that ends before `end_column` (default: the newest).

        -> mel (1, num_mels, num_frames) and mask (1, num_frames). Before the start of the audio
        both are 0. The next call overwrites them. Raises IndexError for columns that are no longer
        stored or not yet complete.
        """
        start, count = self._span(end_column)
        missing = self.spec.num_frames - count
        self._mel[0, :, :missing] = 0.0
        self._mel[0, :, missing:] = self._columns[:, start : start + count]
        self._mask[0, :missing] = 0.0
        self._mask[0, missing:] = 1.0
        return self._mel, self._mask

    def wipe(self) -> None:
        """Overwrite all audio and everything computed from it with zeros."""
        self.restart(0)
        windows = (self._mel, self._mask)
        kept = (self._audio, self._columns, self._levels, self._smooth)
        for array in (*kept, *windows, *self._scratch):
            array.fill(0)


def compile_push() -> None:
    """Compile the kernels, or load them from the disk cache, before the first audio arrives."""
    if not push_samples.signatures:
        doubles, floats = types.float64[::1], types.float32[::1]
        push_samples.compile(
            types.UniTuple(types.int64, 2)(
                types.Array(types.float32, 1, "C", readonly=True),
                doubles,
                *[types.int64] * 4,
                types.float32[:, ::1],
                floats,
                types.float64,
                doubles,
                types.float64[:, ::1],
                types.int64[:, ::1],
                doubles,
                types.int64,
                doubles,
                doubles,
                types.float64[:, ::1],
                floats,
            )
        )
        # Writable arrays match the read-only signature too: no call may compile a second version.
        push_samples.disable_compile()
