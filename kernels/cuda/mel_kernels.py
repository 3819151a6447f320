"""The CUDA kernels of the log-mel: audio samples to columns, and columns to a window.

They also run in Numba's simulator, which replaces `cuda` per module. So there are no warp
intrinsics, and device functions that synchronize threads are in the same module as their kernel.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float64

from ..cpu.compression import LOG, ROOT

MEL_SIGNATURE = (
    "void(float32[::1], int64, int64, float64, float64, int64, float32, float32, float32,"
    " float64[::1], float64[:, ::1], int64[:, ::1], float64[::1], float32[:, ::1])"
)
PCEN_SIGNATURE = (
    "void(float32[:, ::1], int64, int64, boolean, float64, float64, float32, float32, float32,"
    " float32, float32, float64[::1])"
)
WINDOW_SIGNATURE = "void(float32[:, ::1], int64, int64, float32[:, :, ::1], float32[:, ::1])"


@cuda.jit(device=True)
def _transform(work, turns):  # type: ignore[no-untyped-def]
    """Compute a complex FFT of `work[:2 * size]`, real parts before imaginary parts.

    Returns where the result starts: at 0 or at 2 * `size`. Stockham's self-sorting radix 4, as in
    `cpu.fft`.
    """
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = turns.shape[1]
    quarter = size >> 2
    here, there = 0, 2 * size
    span, stride = size, 1
    while span >= 4:
        n = thread
        while n < quarter:
            q = n & (stride - 1)
            turn = n - q
            re, im = here + n, here + size + n
            a_re, b_re = work[re], work[re + quarter]
            c_re, d_re = work[re + 2 * quarter], work[re + 3 * quarter]
            a_im, b_im = work[im], work[im + quarter]
            c_im, d_im = work[im + 2 * quarter], work[im + 3 * quarter]
            sum_re, sum_im, odd_re, odd_im = a_re + c_re, a_im + c_im, b_re + d_re, b_im + d_im
            dif_re, dif_im, rot_re, rot_im = a_re - c_re, a_im - c_im, d_im - b_im, b_re - d_re
            x1, y1 = dif_re - rot_re, dif_im - rot_im
            x2, y2 = sum_re - odd_re, sum_im - odd_im
            x3, y3 = dif_re + rot_re, dif_im + rot_im
            re = there + q + 4 * turn
            im = re + size
            work[re] = sum_re + odd_re
            work[im] = sum_im + odd_im
            work[re + stride] = x1 * turns[2, turn] - y1 * turns[3, turn]
            work[im + stride] = x1 * turns[3, turn] + y1 * turns[2, turn]
            work[re + 2 * stride] = x2 * turns[4, turn] - y2 * turns[5, turn]
            work[im + 2 * stride] = x2 * turns[5, turn] + y2 * turns[4, turn]
            work[re + 3 * stride] = x3 * turns[6, turn] - y3 * turns[7, turn]
            work[im + 3 * stride] = x3 * turns[7, turn] + y3 * turns[6, turn]
            n += threads
        cuda.syncthreads()
        here, there = there, here
        span >>= 2
        stride <<= 2
    if span == 2:
        n = thread
        while n < size:
            at = here + n if n < stride else here + size + n - stride
            a, b = work[at], work[at + stride]
            work[at] = a + b
            work[at + stride] = a - b
            n += threads
        cuda.syncthreads()
    return here


def mel_kernel(  # type: ignore[no-untyped-def]
    audio,
    hop,
    slot,
    preemphasis,
    floor,
    compression,
    exponent,
    mean,
    scale,
    hann,
    turns,
    triangles,
    weights,
    columns,
):
    """Compute log-mel columns: block b computes the one of `audio[b hop : b hop + 1 + window]`.

    The first sample is the one before the window. The result goes to position `slot` + b of the
    ring `columns` (num_mels, capacity). `compression` is one of `cpu.compression`: for PCEN the
    result is the power, which `pcen_kernel` compresses. `turns` comes from `cpu.fft.twiddles`,
    `triangles` and `weights` come from `cpu.mel.pack_filters`. Shared memory: 4 `size` float64 with
    `size` = half the FFT = turns.shape[1], for the real and imaginary parts of two stages.
    """
    work = cuda.shared.array(0, float64)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = turns.shape[1]
    start = cuda.blockIdx.x * hop
    # Even samples are the real part, odd ones the imaginary part of a complex FFT of half the size.
    # While loops, because a range would make the GPU divide to count its steps.
    n = thread
    while n < 2 * size:
        value = np.float64(0.0)
        if n < hann.shape[0]:
            newer, older = np.float64(audio[start + n + 1]), np.float64(audio[start + n])
            value = (newer - preemphasis * older) * hann[n]
        work[(n & 1) * size + (n >> 1)] = value
        n += threads
    cuda.syncthreads()

    here = _transform(work, turns)
    there = 2 * size - here

    # Write the power spectrum of the real samples into the other stage's memory.
    k = thread
    while k <= size:
        at, mirror = here + (k & (size - 1)), here + ((size - k) & (size - 1))
        even_re, even_im = work[at] + work[mirror], work[at + size] - work[mirror + size]
        odd_re, odd_im = work[at + size] + work[mirror + size], work[mirror] - work[at]
        cos, sin = np.float64(-1.0), np.float64(0.0)
        if k < size:
            cos, sin = turns[0, k], turns[1, k]
        x = even_re + odd_re * cos - odd_im * sin
        y = even_im + odd_re * sin + odd_im * cos
        work[there + k] = 0.25 * (x * x + y * y)
        k += threads
    cuda.syncthreads()

    place = slot + cuda.blockIdx.x
    if place >= columns.shape[1]:
        place -= columns.shape[1]
    m = thread
    while m < columns.shape[0]:
        k, end, offset = triangles[m, 0], triangles[m, 1], triangles[m, 2] - triangles[m, 0]
        total = floor
        while k < end:
            total += work[there + k] * weights[offset + k]
            k += 1
        power = np.float32(total)
        if compression == LOG:
            columns[m, place] = (np.float32(math.log(power)) - mean) * scale
        elif compression == ROOT:
            columns[m, place] = (np.float32(math.pow(power, exponent)) - mean) * scale
        else:
            columns[m, place] = power
        m += threads


def pcen_kernel(  # type: ignore[no-untyped-def]
    columns, slot, count, is_first, floor, smoothing, gain, bias, exponent, mean, scale, smooth
):
    """Compress the power of `count` columns from position `slot` of the ring `columns`, in place.

    One thread computes one band, because PCEN goes from column to column. `smooth` (num_mels,) is
    the mean power before the first column. If it `is_first` of its stream, the mean starts anew.
    """
    m = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if m < columns.shape[0]:
        average = smooth[m]
        offset = np.float32(math.pow(bias, exponent)) + mean
        k, place = 0, slot
        while k < count:
            if place >= columns.shape[1]:
                place -= columns.shape[1]
            power = columns[m, place]
            if is_first and k == 0:
                average = np.float64(power)
            else:
                average += smoothing * (np.float64(power) - average)
            ratio = power / np.float32(math.pow(np.float32(floor + average), gain))
            columns[m, place] = (np.float32(math.pow(ratio + bias, exponent)) - offset) * scale
            k += 1
            place += 1
        smooth[m] = average


def window_kernel(columns, start, count, mel, mask):  # type: ignore[no-untyped-def]
    """Gather a window: block m copies band m of `count` columns from position `start` of the ring.

    They go to the end of `mel` (1, num_mels, num_frames), with zeros before them. The first block
    also fills `mask` (1, num_frames).
    """
    band, num_frames = cuda.blockIdx.x, mel.shape[2]
    missing = num_frames - count
    j = cuda.threadIdx.x
    while j < num_frames:
        value, there = np.float32(0.0), np.float32(0.0)
        if j >= missing:
            place = start + j - missing
            if place >= columns.shape[1]:
                place -= columns.shape[1]
            value, there = columns[band, place], np.float32(1.0)
        mel[0, band, j] = value
        if band == 0:
            mask[0, j] = there
        j += cuda.blockDim.x
