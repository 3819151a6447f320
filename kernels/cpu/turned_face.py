"""The CPU's face pass for turned boxes: the pixels lie neither in rows nor in columns of the image.

For each output pixel the four source pixels are loaded into vector registers, two neighbours at a
time, blended and scaled. Four output pixels are then transposed from interleaved to planar.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from ..crop import FRACTION_BITS
from .simd import load4, load_pair, splat4, store4, transpose4

U64 = numba.uint64  # with an unsigned index Numba does not check for negative ones
I64 = numba.int64
_FRACTION = (1 << FRACTION_BITS) - 1
_SHARE = np.float32(2.0**-FRACTION_BITS)


@numba.njit(forceinline=True)
def _lies_inside(start, along, across, size, limit):  # type: ignore[no-untyped-def]
    """Check along one axis whether no output pixel reads beyond the border: neither of its
    neighbours, nor under its quarter points. `along` and `across` are the steps to the next output
    pixel of a row and of a column."""
    last = I64(size - 1)
    quarters = (abs(along) + abs(across)) >> 2
    low = start + last * (min(along, I64(0)) + min(across, I64(0))) - quarters
    high = start + last * (max(along, I64(0)) + max(across, I64(0))) + quarters
    return low >= I64(0) and high < (I64(limit - 1) << FRACTION_BITS)


@numba.njit(forceinline=True)
def _blend_neighbours(pixels, x, y, inside, columns, rows, pitch):  # type: ignore[no-untyped-def]
    """Blend the four neighbours of a position. `columns` and `rows` are the last pixel's position,
    and the last one of which a neighbour may follow: the one before, unless it is alone."""
    if inside:
        left, top, below = x >> FRACTION_BITS, y >> FRACTION_BITS, pitch
    else:
        x, y = min(max(x, I64(0)), columns[0]), min(max(y, I64(0)), rows[0])
        left, top = min(x >> FRACTION_BITS, columns[1]), min(y >> FRACTION_BITS, rows[1])
        below = pitch if rows[0] > I64(0) else U64(0)
    across = splat4(np.float32(x - (left << FRACTION_BITS)) * _SHARE)
    down = splat4(np.float32(y - (top << FRACTION_BITS)) * _SHARE)
    at = U64(top) * pitch + U64(left) * U64(3)
    here, there = load_pair(pixels, at)
    upper = here + (there - here) * across
    here, there = load_pair(pixels, at + below)
    lower = here + (there - here) * across
    return upper + (lower - upper) * down


@numba.njit(forceinline=True)
def _load_pixel(pixels, x, y, inside, columns, rows, pitch):  # type: ignore[no-untyped-def]
    """Load the pixel under a position."""
    if not inside:
        x, y = min(max(x, I64(0)), columns[0]), min(max(y, I64(0)), rows[0])
    pixel, _ = load_pair(pixels, U64(y >> FRACTION_BITS) * pitch + U64(x >> FRACTION_BITS) * U64(3))
    return pixel


@numba.njit(forceinline=True)
def _average_quarters(  # type: ignore[no-untyped-def]
    pixels, x, y, right, down, inside, columns, rows, pitch
):
    """Average the pixels under the four quarter points of an output pixel."""
    right, down = right >> 2, down >> 2
    a = _load_pixel(pixels, x - right + down, y - down - right, inside, columns, rows, pitch)
    b = _load_pixel(pixels, x + right + down, y + down - right, inside, columns, rows, pitch)
    c = _load_pixel(pixels, x - right - down, y - down + right, inside, columns, rows, pitch)
    d = _load_pixel(pixels, x + right - down, y + down + right, inside, columns, rows, pitch)
    return ((a + b) + (c + d)) * splat4(np.float32(0.25))


@numba.njit(forceinline=True)
def _sample(  # type: ignore[no-untyped-def]
    pixels, x, y, right, down, wide, inside, columns, rows, pitch
):
    if wide:
        return _average_quarters(pixels, x, y, right, down, inside, columns, rows, pitch)
    return _blend_neighbours(pixels, x, y, inside, columns, rows, pitch)


@numba.njit(forceinline=True)
def _fill(  # type: ignore[no-untyped-def]
    pixels, x, y, right, down, wide, inside, columns, rows, pitch, scale, bias, first_plane, out
):
    """Fill `out`. Inlined once for each `wide` and `inside`, so that no pixel tests them."""
    size = out.shape[1]
    for i in range(size):
        plane0, plane1, plane2 = out[first_plane, i], out[1, i], out[2 - first_plane, i]
        at_x, at_y = x - I64(i) * down, y + I64(i) * right
        for j in range(U64(0), U64(size), U64(4)):
            a = _sample(pixels, at_x, at_y, right, down, wide, inside, columns, rows, pitch)
            at_x, at_y = at_x + right, at_y + down
            b = _sample(pixels, at_x, at_y, right, down, wide, inside, columns, rows, pitch)
            at_x, at_y = at_x + right, at_y + down
            c = _sample(pixels, at_x, at_y, right, down, wide, inside, columns, rows, pitch)
            at_x, at_y = at_x + right, at_y + down
            d = _sample(pixels, at_x, at_y, right, down, wide, inside, columns, rows, pitch)
            at_x, at_y = at_x + right, at_y + down
            c0, c1, c2, _ = transpose4(
                a * scale + bias, b * scale + bias, c * scale + bias, d * scale + bias
            )
            store4(plane0, j, c0)
            store4(plane1, j, c1)
            store4(plane2, j, c2)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def turned_face_pass(  # type: ignore[no-untyped-def]
    pixels, height, width, x, y, right, down, wide, bgr, scaling, out
):
    """Fill `out` (3, size, size) as `reference.face_tensor` does for a turned box.

    `pixels` (n,) holds an image (height, width, 3): uint8 with n >= 8, or float32 on 0..255 with
    at least one number more. `x` to `wide`: `crop.Placement`. `scaling` float32 (8,): the scale of
    each channel from 0 on, its bias from 4 on, see `face.channel_rows`. `size` is a multiple of
    four.
    """
    size = out.shape[1]
    pitch = U64(width) * U64(3)
    columns = (I64(width - 1) << FRACTION_BITS, I64(max(width - 2, 0)))
    rows = (I64(height - 1) << FRACTION_BITS, I64(max(height - 2, 0)))
    inside = _lies_inside(x, right, -down, size, width) and _lies_inside(
        y, down, right, size, height
    )
    image = columns, rows, pitch, load4(scaling, U64(0)), load4(scaling, U64(4)), 2 if bgr else 0
    if inside and wide:
        _fill(pixels, x, y, right, down, True, True, *image, out)
    elif inside:
        _fill(pixels, x, y, right, down, False, True, *image, out)
    elif wide:
        _fill(pixels, x, y, right, down, True, False, *image, out)
    else:
        _fill(pixels, x, y, right, down, False, False, *image, out)


def compile_turned_face_pass() -> None:
    """Compile the kernel, or load it from the disk cache, before the first frame arrives."""
    if not turned_face_pass.signatures:
        for pixels in (types.Array(types.uint8, 1, "C", readonly=True), types.float32[::1]):
            turned_face_pass.compile(
                types.void(
                    pixels,
                    *[types.int64] * 6,
                    *[types.boolean] * 2,
                    types.float32[::1],
                    types.float32[:, :, ::1],
                )
            )
        turned_face_pass.disable_compile()
