"""Y'CbCr conversion for the CPU's face pass: a crop of an image in, float R G B out."""

from __future__ import annotations

import numba
import numpy as np
from numba import types

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


@_compiled
def _clip(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.float32(0.0)), np.float32(255.0))


@_compiled
def _read_matrix(matrix):  # type: ignore[no-untyped-def]
    """Return the entries of `pixels.YCbCr.rgb_matrix` that are not 0.

    They are read once, because the compiler must assume that `out` overlaps the matrix.
    """
    return (
        matrix[0, 0],
        (matrix[0, 2], matrix[1, 1], matrix[1, 2], matrix[2, 1]),
        (matrix[0, 3], matrix[1, 3], matrix[2, 3]),
    )


@_compiled
def _convert_pair(u, v, first, second, terms, out, at):  # type: ignore[no-untyped-def]
    """Convert two pixels that share their chroma -> six floats from `out[at]` on."""
    gain, (red_v, green_u, green_v, blue_u), (red_0, green_0, blue_0) = terms
    u, v = np.float32(u), np.float32(v)
    red, green, blue = red_v * v + red_0, green_v * v + green_u * u + green_0, blue_u * u + blue_0
    y, z = np.float32(first) * gain, np.float32(second) * gain
    out[at] = _clip(y + red)
    out[at + 1] = _clip(y + green)
    out[at + 2] = _clip(y + blue)
    out[at + 3] = _clip(z + red)
    out[at + 4] = _clip(z + green)
    out[at + 5] = _clip(z + blue)


@_compiled
def convert_yuyv(pixels, matrix, out):  # type: ignore[no-untyped-def]
    """Convert `pixels` uint8 (h, 2 w), Y U Y V, to `out` float32 (h, 3 w) as `reference.to_rgb`.

    w is even. `matrix` float32 (3, 4): from `pixels.RGB_MATRICES`.
    """
    terms = _read_matrix(matrix)
    for i in range(pixels.shape[0]):
        row, line = pixels[i], out[i]
        for k in range(pixels.shape[1] // 4):
            at = 4 * k
            u, v = row[at + 1], row[at + 3]
            _convert_pair(u, v, row[at], row[at + 2], terms, line, 6 * k)


@_compiled
def convert_nv12(luma, chroma, matrix, out):  # type: ignore[no-untyped-def]
    """Convert `luma` uint8 (h, w) and `chroma` uint8 (h / 2, w), U V, to `out` float32 (h, 3 w).

    As `reference.to_rgb`. h and w are even. `matrix` as in `convert_yuyv`.
    """
    terms = _read_matrix(matrix)
    for i in range(luma.shape[0]):
        row, colors, line = luma[i], chroma[i // 2], out[i]
        for k in range(luma.shape[1] // 2):
            at = 2 * k
            u, v = colors[at], colors[at + 1]
            _convert_pair(u, v, row[at], row[at + 1], terms, line, 6 * k)


def compile_color_conversion() -> None:
    """Compile the kernels, or load them from the disk cache, before the first frame arrives."""
    # The rows of a crop have the stride of the whole image; the bytes within a row are contiguous.
    image, floats = types.Array(types.uint8, 2, "A", readonly=True), types.float32[:, ::1]
    for kernel, arguments in ((convert_yuyv, (image,)), (convert_nv12, (image, image))):
        if not kernel.signatures:
            kernel.compile(types.void(*arguments, floats, floats))
            kernel.disable_compile()
