"""The face pass as one CUDA kernel: camera bytes and a box in, the network's input out.

One thread per output pixel finds its four source pixels, makes R G B of them, blends, scales and
writes all three planes; neighbouring threads write neighbouring numbers. Places are fixed-point
numbers, 32 bits before the point and 32 behind: exact to 1e-7 of a pixel at any picture size,
where float32 would not be, and without float64, which an Orin has at 1/64 of the rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from .crop import Box
from .pixels import FORMATS
from .reference import KB, KR, TAP_NUDGE, WIDE_STEP
from .spec import ImageSpec

BLOCK = (32, 8)
"""Threads across and down: a warp writes 32 neighbours of a row."""
OUTPUT_DTYPES = ("float32", "float16")

_BGR, _RGB, _YUYV, _ = range(len(FORMATS))  # in this order
_ONE = 1 << 32
_FRACTION = _ONE - 1
_FAR = float(1 << 28)
"""Beyond this every place is outside any picture."""
_SHARE = np.float32(2.0**-32)
_HALF, _ZERO, _FULL = np.float32(0.5), np.float32(0.0), np.float32(255.0)
_BLACK, _GREY, _LUMA = np.float32(16.0), np.float32(128.0), np.float32(255 / 219)
_RED = np.float32(2 * (1 - KR) * 255 / 224)
_BLUE = np.float32(2 * (1 - KB) * 255 / 224)
_GREEN_RED = np.float32(-KR / (1 - KR - KB) * 2 * (1 - KR) * 255 / 224)
_GREEN_BLUE = np.float32(-KB / (1 - KR - KB) * 2 * (1 - KB) * 255 / 224)


# Not min() and max(): Numba's own CUDA target, from 0.66 on, fails to compile them (numba#10753).
@cuda.jit(device=True)
def _limit(value, low, high):  # type: ignore[no-untyped-def]
    if value < low:
        return low
    if value > high:
        return high
    return value


@cuda.jit(device=True)
def _find_taps(here, there, limit, wide):  # type: ignore[no-untyped-def]
    """`reference.taps` of one output pixel along one axis."""
    last = limit - 1
    if wide:
        return _limit(here >> 32, 0, last), _limit(there >> 32, 0, last), _HALF
    place = _limit(here, 0, last << 32)
    low = place >> 32
    return low, _limit(low + 1, 0, last), np.float32(place & _FRACTION) * _SHARE


@cuda.jit(device=True)
def _read_pixel(data, layout, pitch, height, column, row):  # type: ignore[no-untyped-def]
    """Red, green, blue on 0..255 as `reference.to_rgb`."""
    if layout <= _RGB:
        at = row * pitch + 3 * column
        first, last = np.float32(data[at]), np.float32(data[at + 2])
        if layout == _BGR:
            first, last = last, first
        return first, np.float32(data[at + 1]), last
    if layout == _YUYV:
        at = row * pitch + 2 * column
        group = row * pitch + 4 * (column >> 1)
        u, v = np.float32(data[group + 1]), np.float32(data[group + 3])
    else:
        at = row * pitch + column
        group = (height + (row >> 1)) * pitch + 2 * (column >> 1)
        u, v = np.float32(data[group]), np.float32(data[group + 1])
    y = (np.float32(data[at]) - _BLACK) * _LUMA
    u -= _GREY
    v -= _GREY
    return (
        _limit(y + _RED * v, _ZERO, _FULL),
        _limit(y + _GREEN_RED * v + _GREEN_BLUE * u, _ZERO, _FULL),
        _limit(y + _BLUE * u, _ZERO, _FULL),
    )


@cuda.jit(device=True)
def _blend(top_left, top_right, bottom_left, bottom_right, across, down):  # type: ignore[no-untyped-def]
    top = top_left + (top_right - top_left) * across
    bottom = bottom_left + (bottom_right - bottom_left) * across
    return top + (bottom - top) * down


def face_kernel(  # type: ignore[no-untyped-def]
    data, layout, pitch, width, height, x_here, x_there, y_here, y_there, step, wide, scaling, out
):
    """Fill `out` (1, 3, size, size). Arguments: see `place_box`.

    `data` uint8: row i of the picture starts at byte i * `pitch`; for nv12 the rows of colour
    follow those of luma. `scaling` float32 (6,): a factor and a summand for red, green, blue.
    """
    j, i = cuda.grid(2)
    if i < out.shape[2] and j < out.shape[3]:
        left, right, across = _find_taps(x_here + j * step, x_there + j * step, width, wide)
        upper, lower, down = _find_taps(y_here + i * step, y_there + i * step, height, wide)
        r0, g0, b0 = _read_pixel(data, layout, pitch, height, left, upper)
        r1, g1, b1 = _read_pixel(data, layout, pitch, height, right, upper)
        r2, g2, b2 = _read_pixel(data, layout, pitch, height, left, lower)
        r3, g3, b3 = _read_pixel(data, layout, pitch, height, right, lower)
        red = _blend(r0, r1, r2, r3, across, down)
        green = _blend(g0, g1, g2, g3, across, down)
        blue = _blend(b0, b1, b2, b3, across, down)
        out[0, 0, i, j] = red * scaling[0] + scaling[3]
        out[0, 1, i, j] = green * scaling[1] + scaling[4]
        out[0, 2, i, j] = blue * scaling[2] + scaling[5]


def face_signature(dtype: str) -> str:
    """Of `face_kernel` with an output of `dtype`."""
    return f"void(uint8[::1], {', '.join(['int64'] * 10)}, float32[::1], {dtype}[:, :, :, ::1])"


def compile_face_pass(dtype: str) -> Any:
    """The kernel, compiled for the GPU that is current or loaded from the disk cache."""
    return cuda.jit(face_signature(dtype), cache=True)(face_kernel)


def place_box(box: Box, size_px: int) -> tuple[int, int, int, int, int, int]:
    """Box (x, y, side) -> what `face_kernel` wants: the places of the first pixel's taps across
    (two) and down (two), the step to the next pixel's, all in fixed-point, and whether the taps
    are the wide ones. See `reference.taps`."""
    x, y, side = box
    step = side / size_px
    wide = step >= WIDE_STEP
    shifts = (0.25 * step + TAP_NUDGE, 0.75 * step + TAP_NUDGE) if wide else (0.5 * step - 0.5,) * 2
    x_here, x_there = (_to_fixed(x + shift) for shift in shifts)
    y_here, y_there = (_to_fixed(y + shift) for shift in shifts)
    return x_here, x_there, y_here, y_there, _to_fixed(step), int(wide)


def _to_fixed(place: float) -> int:
    return round(min(max(place, -_FAR), _FAR) * _ONE)


def count_blocks(size_px: int) -> tuple[int, int]:
    """The grid of `BLOCK`s that covers an output."""
    return -(-size_px // BLOCK[0]), -(-size_px // BLOCK[1])


def channel_scaling(spec: ImageSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(6,): what turns R G B on 0..255 into `(pixel / 255 - mean) / std`."""
    std = np.array(spec.std)
    return np.concatenate([1.0 / (255.0 * std), -np.array(spec.mean) / std]).astype(np.float32)
