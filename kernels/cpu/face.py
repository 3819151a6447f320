"""The CPU's face pass: an image and a box in, the face network's input out.

One pass over the output rows. The two source rows of an output row are blended, scaled and shifted
into a small float row, which LLVM vectorizes. Then four output pixels at a time are loaded from it,
blended horizontally and transposed from interleaved to planar in vector registers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from ..reference import MAX_BILINEAR_STEP, TAP_OFFSET
from .simd import load4, splat4, store4, transpose4

U = numba.uint64  # with an unsigned index Numba does not check for negative ones


@numba.njit
def _find_taps(origin, side, limit, first, second, weight):  # type: ignore[no-untyped-def]
    """Compute `reference.taps` into the given arrays."""
    step = side / len(first)
    for i in range(len(first)):
        if step < MAX_BILINEAR_STEP:
            place = min(max(origin + (i + 0.5) * step - 0.5, 0.0), limit - 1.0)
            low = int(place)
            first[i] = low
            second[i] = min(low + 1, limit - 1)
            weight[i] = place - low
        else:
            here = origin + (i + 0.25) * step + TAP_OFFSET
            there = origin + (i + 0.75) * step + TAP_OFFSET
            first[i] = int(min(max(np.floor(here), 0.0), limit - 1.0))
            second[i] = int(min(max(np.floor(there), 0.0), limit - 1.0))
            weight[i] = 0.5


@numba.njit
def _blend_pixel(row, left, right, weight, at):  # type: ignore[no-untyped-def]
    """Blend two source pixels of `row` into the three channels of output pixel `at`.

    Each load reads four floats, so `row` must be readable one float past its last pixel.
    """
    here = load4(row, left[at])
    return here + (load4(row, right[at]) - here) * splat4(weight[at])


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})
def face_pass(  # type: ignore[no-untyped-def]
    image, x, y, side, bgr, scale, bias, taps, weights, row, out
):
    """Fill `out` (3, size, size) from `image` (H, W, 3) as `reference.face_tensor`.

    `image` is uint8, or float32 on 0..255. `size` is a multiple of four. `scale` and `bias` are
    float32 (3 W,), see `channel_rows`. Scratch: `taps` uint64 (4, P) and `weights` float32 (2, P)
    with P >= size, `row` float32 (3 W + 1,).
    """
    height, width, _ = image.shape
    size = out.shape[1]
    left, right, upper, lower = taps[0, :size], taps[1, :size], taps[2, :size], taps[3, :size]
    across, down = weights[0, :size], weights[1, :size]
    _find_taps(x, side, width, left, right, across)
    _find_taps(y, side, height, upper, lower, down)
    first = left[0] * U(3)
    for j in range(size):  # from pixel numbers to positions in `row`
        left[j] = left[j] * U(3) - first
        right[j] = right[j] * U(3) - first
    length = right[size - 1] + U(3)
    first_plane = 2 if bgr else 0

    for i in range(size):
        top = image[upper[i]].reshape(-1)[first:]
        bottom = image[lower[i]].reshape(-1)[first:]
        weight = down[i]
        for k in range(length):
            value = np.float32(top[k])
            value += (np.float32(bottom[k]) - value) * weight
            row[k] = value * scale[k] + bias[k]
        plane0, plane1, plane2 = out[first_plane, i], out[1, i], out[2 - first_plane, i]
        for j in range(U(0), U(size), U(4)):
            c0, c1, c2, _ = transpose4(
                _blend_pixel(row, left, right, across, j),
                _blend_pixel(row, left, right, across, j + U(1)),
                _blend_pixel(row, left, right, across, j + U(2)),
                _blend_pixel(row, left, right, across, j + U(3)),
            )
            store4(plane0, j, c0)
            store4(plane1, j, c1)
            store4(plane2, j, c2)


def channel_rows(
    mean: tuple[float, ...], std: tuple[float, ...], bgr: bool, width: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return `scale` and `bias` (3 width,), which make `(pixel / 255 - mean) / std` of a row."""
    order = slice(None, None, -1) if bgr else slice(None)
    scale = (1.0 / (255.0 * np.array(std)))[order]
    bias = (-np.array(mean) / np.array(std))[order]
    return (
        np.tile(scale, width).astype(np.float32),
        np.tile(bias, width).astype(np.float32),
    )


def compile_face_pass() -> None:
    """Compile the kernels, or load them from the disk cache, before the first frame arrives."""
    if not face_pass.signatures:
        floats = types.float32[::1]
        for pixels in (types.Array(types.uint8, 3, "C", readonly=True), types.float32[:, :, ::1]):
            face_pass.compile(
                types.void(
                    pixels,
                    *[types.float64] * 3,
                    types.boolean,
                    *[floats] * 2,
                    types.uint64[:, ::1],
                    types.float32[:, ::1],
                    floats,
                    types.float32[:, :, ::1],
                )
            )
        # Writable arrays match the read-only signature too: no call may compile a second version.
        face_pass.disable_compile()
