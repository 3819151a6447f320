"""The face pass as one CUDA kernel: an image and a box in, the face network's input out.

Each thread computes one output pixel: it reads four source pixels, converts them to R G B, blends
and scales them, and writes all three planes. Neighbouring threads write neighbouring numbers.
Positions are fixed-point numbers, see `crop.Placement`. float64 would be exact too, but an Orin
computes it at 1/64 of the rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from ..crop import FRACTION_BITS
from ..pixels import LAYOUTS, RGB_MATRICES
from ..spec import ImageSpec

BLOCK = (32, 8)
"""Threads per block, horizontally and vertically: a warp writes 32 neighbours of a row."""
OUTPUT_DTYPES = ("float32", "float16")

_BGR, _RGB, _YUYV, _ = range(len(LAYOUTS))  # positions in LAYOUTS
_Y, _CB, _CR, _OFFSET, _FACTOR, _SUMMAND = range(6)  # columns of `channel_table`
_FRACTION = (1 << FRACTION_BITS) - 1
_SHARE = np.float32(2.0**-FRACTION_BITS)
_HALF, _ZERO, _FULL = np.float32(0.5), np.float32(0.0), np.float32(255.0)


# Not min() and max(): Numba's own CUDA target, from 0.66 on, fails to compile them (numba#10753).
@cuda.jit(device=True)
def _limit(value, low, high):  # type: ignore[no-untyped-def]
    if value < low:
        return low
    if value > high:
        return high
    return value


@cuda.jit(device=True)
def _find_pixel(place, limit):  # type: ignore[no-untyped-def]
    """Return the pixel under a position along one axis."""
    return _limit(place >> FRACTION_BITS, 0, limit - 1)


@cuda.jit(device=True)
def _find_neighbours(place, limit):  # type: ignore[no-untyped-def]
    """Return the two neighbours of a position along one axis, and the second one's share."""
    last = limit - 1
    place = _limit(place, 0, last << FRACTION_BITS)
    low = place >> FRACTION_BITS
    return low, _limit(low + 1, 0, last), np.float32(place & _FRACTION) * _SHARE


@cuda.jit(device=True)
def _read_pixel(data, start, layout, pitch, height, column, row, matrix):  # type: ignore[no-untyped-def]
    """Return R, G, B on 0..255 as `reference.to_rgb`. `matrix` is `face_kernel`'s `channels`."""
    if layout <= _RGB:
        at = start + row * pitch + 3 * column
        first, last = np.float32(data[at]), np.float32(data[at + 2])
        if layout == _BGR:
            first, last = last, first
        return first, np.float32(data[at + 1]), last
    if layout == _YUYV:
        at = start + row * pitch + 2 * column
        group = start + row * pitch + 4 * (column >> 1)
        u, v = np.float32(data[group + 1]), np.float32(data[group + 3])
    else:
        at = start + row * pitch + column
        group = start + (height + (row >> 1)) * pitch + 2 * (column >> 1)
        u, v = np.float32(data[group]), np.float32(data[group + 1])
    y = np.float32(data[at])
    red = matrix[0, _Y] * y + matrix[0, _CR] * v + matrix[0, _OFFSET]
    green = matrix[1, _Y] * y + matrix[1, _CB] * u + matrix[1, _CR] * v + matrix[1, _OFFSET]
    blue = matrix[2, _Y] * y + matrix[2, _CB] * u + matrix[2, _OFFSET]
    return _limit(red, _ZERO, _FULL), _limit(green, _ZERO, _FULL), _limit(blue, _ZERO, _FULL)


@cuda.jit(device=True)
def _blend(top_left, top_right, bottom_left, bottom_right, across, down):  # type: ignore[no-untyped-def]
    top = top_left + (top_right - top_left) * across
    bottom = bottom_left + (bottom_right - bottom_left) * across
    return top + (bottom - top) * down


def face_kernel(  # type: ignore[no-untyped-def]
    data, start, layout, pitch, width, height, x, y, right, down, wide, face, channels, out
):
    """Fill `out[face]`, of (n, 3, size, size), as `reference.face_tensor`.

    `data` uint8: row i of the image starts at byte `start` + i * `pitch`; for nv12 the chroma rows
    follow the luma rows. `x` to `wide`: `crop.Placement`. `channels` float32 (3, 6): see
    `channel_table`.
    """
    j, i = cuda.grid(2)
    if i < out.shape[2] and j < out.shape[3]:
        x += j * right - i * down
        y += j * down + i * right
        if wide:
            right, down = right >> 2, down >> 2
            x0, y0 = _find_pixel(x - right + down, width), _find_pixel(y - down - right, height)
            x1, y1 = _find_pixel(x + right + down, width), _find_pixel(y + down - right, height)
            x2, y2 = _find_pixel(x - right - down, width), _find_pixel(y - down + right, height)
            x3, y3 = _find_pixel(x + right - down, width), _find_pixel(y + down + right, height)
            across, below = _HALF, _HALF
        else:
            x0, x1, across = _find_neighbours(x, width)
            y0, y2, below = _find_neighbours(y, height)
            x2, y1, x3, y3 = x0, y0, x1, y2
        r0, g0, b0 = _read_pixel(data, start, layout, pitch, height, x0, y0, channels)
        r1, g1, b1 = _read_pixel(data, start, layout, pitch, height, x1, y1, channels)
        r2, g2, b2 = _read_pixel(data, start, layout, pitch, height, x2, y2, channels)
        r3, g3, b3 = _read_pixel(data, start, layout, pitch, height, x3, y3, channels)
        red = _blend(r0, r1, r2, r3, across, below)
        green = _blend(g0, g1, g2, g3, across, below)
        blue = _blend(b0, b1, b2, b3, across, below)
        out[face, 0, i, j] = red * channels[0, _FACTOR] + channels[0, _SUMMAND]
        out[face, 1, i, j] = green * channels[1, _FACTOR] + channels[1, _SUMMAND]
        out[face, 2, i, j] = blue * channels[2, _FACTOR] + channels[2, _SUMMAND]


def face_signature(dtype: str) -> str:
    """Return the signature of `face_kernel` for an output of `dtype`."""
    return f"void(uint8[::1], {', '.join(['int64'] * 11)}, float32[:, ::1], {dtype}[:, :, :, ::1])"


def compile_face_pass(dtype: str) -> Any:
    """Compile `face_kernel` for the current GPU, or load it from the disk cache."""
    return cuda.jit(face_signature(dtype), cache=True)(face_kernel)


def count_blocks(size_px: int) -> tuple[int, int]:
    """Return the grid of `BLOCK`s that covers an output."""
    return -(-size_px // BLOCK[0]), -(-size_px // BLOCK[1])


def channel_table(spec: ImageSpec, pixel_format: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return (3, 6), a row each for red, green and blue.

    Columns 0 to 3: the format's matrix of `pixels.RGB_MATRICES`, 0 for R'G'B'. Columns 4 and 5: the
    factor and the summand that make `(pixel / 255 - mean) / std` of a pixel. One array instead of
    two, because each argument of a launch costs CPU time.
    """
    std = np.array(spec.std)
    matrix = RGB_MATRICES.get(pixel_format, np.zeros((3, 4), np.float32))
    scaling = (1.0 / (255.0 * std), -np.array(spec.mean) / std)
    return np.column_stack((matrix, *scaling)).astype(np.float32)
