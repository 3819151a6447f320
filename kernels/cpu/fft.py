"""A complex FFT for the CPU: radix 4, four butterflies at a time in vector registers."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from .simd import load4, splat4, store4, transpose4

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


def twiddles(size: int) -> NDArray[np.float64]:
    """Return the twiddle factors (8, size), alternately cosines and sines.

    Rows 0 and 1: of -2 pi k / (2 size), which make a real FFT from a complex one of half its size.
    Rows 2 to 7: of -2 pi j k / size for j = 1, 2, 3, the factors of radix 4.
    """
    turn = -2 * np.pi * np.arange(size) / size
    angles = [turn / 2, turn, 2 * turn, 3 * turn]
    return np.ascontiguousarray([f(angle) for angle in angles for f in (np.cos, np.sin)])


@_compiled
def _butterfly(re, im, at, apart, c1, s1, c2, s2, c3, s3):  # type: ignore[no-untyped-def]
    """Compute four radix-4 butterflies side by side -> re, then im, of outputs 0-3."""
    a_re, b_re = load4(re, at), load4(re, at + apart)
    c_re, d_re = load4(re, at + 2 * apart), load4(re, at + 3 * apart)
    a_im, b_im = load4(im, at), load4(im, at + apart)
    c_im, d_im = load4(im, at + 2 * apart), load4(im, at + 3 * apart)
    sum_re, sum_im, dif_re, dif_im = a_re + c_re, a_im + c_im, a_re - c_re, a_im - c_im
    odd_re, odd_im = b_re + d_re, b_im + d_im
    rot_re, rot_im = d_im - b_im, b_re - d_re  # j (b - d)
    x1, y1 = dif_re - rot_re, dif_im - rot_im
    x2, y2 = sum_re - odd_re, sum_im - odd_im
    x3, y3 = dif_re + rot_re, dif_im + rot_im
    return (
        sum_re + odd_re,
        x1 * c1 - y1 * s1,
        x2 * c2 - y2 * s2,
        x3 * c3 - y3 * s3,
        sum_im + odd_im,
        x1 * s1 + y1 * c1,
        x2 * s2 + y2 * c2,
        x3 * s3 + y3 * c3,
    )


@_compiled
def complex_fft(size, re, im, re2, im2, turns):  # type: ignore[no-untyped-def]
    """Compute a complex FFT of `size` points: Stockham's self-sorting radix 4.

    `size` is a power of two, at least 16. `turns` comes from `twiddles(size)`. The input is in `re`
    and `im`; `re2` and `im2` are scratch. Returns the two of the four arrays that hold the result.
    """
    quarter = size // 4
    for p in range(0, quarter, 4):  # neighbours differ in p: the outputs are transposed
        v = _butterfly(
            re,
            im,
            p,
            quarter,
            load4(turns[2], p),
            load4(turns[3], p),
            load4(turns[4], p),
            load4(turns[5], p),
            load4(turns[6], p),
            load4(turns[7], p),
        )
        p0, p1, p2, p3 = transpose4(v[0], v[1], v[2], v[3])
        q0, q1, q2, q3 = transpose4(v[4], v[5], v[6], v[7])
        k = 4 * p
        store4(re2, k, p0)
        store4(re2, k + 4, p1)
        store4(re2, k + 8, p2)
        store4(re2, k + 12, p3)
        store4(im2, k, q0)
        store4(im2, k + 4, q1)
        store4(im2, k + 8, q2)
        store4(im2, k + 12, q3)
    re, re2, im, im2 = re2, re, im2, im
    span, stride = quarter, 4
    while span >= 4:
        for p in range(span // 4):
            turn = p * stride
            c1, s1 = splat4(turns[2, turn]), splat4(turns[3, turn])
            c2, s2 = splat4(turns[4, turn]), splat4(turns[5, turn])
            c3, s3 = splat4(turns[6, turn]), splat4(turns[7, turn])
            for q in range(0, stride, 4):  # neighbours share p
                v = _butterfly(re, im, q + turn, quarter, c1, s1, c2, s2, c3, s3)
                k = q + 4 * turn
                store4(re2, k, v[0])
                store4(re2, k + stride, v[1])
                store4(re2, k + 2 * stride, v[2])
                store4(re2, k + 3 * stride, v[3])
                store4(im2, k, v[4])
                store4(im2, k + stride, v[5])
                store4(im2, k + 2 * stride, v[6])
                store4(im2, k + 3 * stride, v[7])
        re, re2, im, im2 = re2, re, im2, im
        span //= 4
        stride *= 4
    if span == 2:
        for q in range(0, stride, 4):
            a_re, b_re = load4(re, q), load4(re, q + stride)
            a_im, b_im = load4(im, q), load4(im, q + stride)
            store4(re, q, a_re + b_re)
            store4(im, q, a_im + b_im)
            store4(re, q + stride, a_re - b_re)
            store4(im, q + stride, a_im - b_im)
    return re, im
