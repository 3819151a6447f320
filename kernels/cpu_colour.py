"""Colour for the CPU's face pass: a crop of a YUV picture in, float R G B out."""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from .reference import KB, KR

RED = np.float32(2 * (1 - KR) * 255 / 224)
BLUE = np.float32(2 * (1 - KB) * 255 / 224)
GREEN_RED = np.float32(-KR / (1 - KR - KB) * RED)
GREEN_BLUE = np.float32(-KB / (1 - KR - KB) * BLUE)
LUMA = np.float32(255 / 219)

_compiled = numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})


@_compiled
def _cut_off(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.float32(0.0)), np.float32(255.0))


@_compiled
def _convert_pair(u, v, first, second, out, at):  # type: ignore[no-untyped-def]
    """Two pixels that share a colour -> six floats from `out[at]` on."""
    u, v = np.float32(u) - np.float32(128.0), np.float32(v) - np.float32(128.0)
    red, green, blue = RED * v, GREEN_RED * v + GREEN_BLUE * u, BLUE * u
    y = (np.float32(first) - np.float32(16.0)) * LUMA
    z = (np.float32(second) - np.float32(16.0)) * LUMA
    out[at] = _cut_off(y + red)
    out[at + 1] = _cut_off(y + green)
    out[at + 2] = _cut_off(y + blue)
    out[at + 3] = _cut_off(z + red)
    out[at + 4] = _cut_off(z + green)
    out[at + 5] = _cut_off(z + blue)


@_compiled
def convert_yuyv(pixels, out):  # type: ignore[no-untyped-def]
    """`pixels` uint8 (h, 2 w), Y U Y V -> `out` float32 (h, 3 w), w even. `reference.to_rgb`."""
    for i in range(pixels.shape[0]):
        row, line = pixels[i], out[i]
        for k in range(pixels.shape[1] // 4):
            at = 4 * k
            u, v = row[at + 1], row[at + 3]
            _convert_pair(u, v, row[at], row[at + 2], line, 6 * k)


@_compiled
def convert_nv12(luma, chroma, out):  # type: ignore[no-untyped-def]
    """`luma` uint8 (h, w) and `chroma` uint8 (h / 2, w), U V -> `out` float32 (h, 3 w), both even.
    `reference.to_rgb`."""
    for i in range(luma.shape[0]):
        row, colours, line = luma[i], chroma[i // 2], out[i]
        for k in range(luma.shape[1] // 2):
            at = 2 * k
            u, v = colours[at], colours[at + 1]
            _convert_pair(u, v, row[at], row[at + 1], line, 6 * k)


def compile_colour() -> None:
    """Compile, or load from the disk cache, so that no frame ever waits for the compiler."""
    # Rows of a crop lie as far apart as those of the picture, but a row's bytes lie together.
    picture, out = types.Array(types.uint8, 2, "A", readonly=True), types.float32[:, ::1]
    for kernel, arguments in ((convert_yuyv, (picture,)), (convert_nv12, (picture, picture))):
        if not kernel.signatures:
            kernel.compile(types.void(*arguments, out))
            kernel.disable_compile()
