"""Pixel formats: how cameras lay an image out in memory. Every face pass reads all of them.

| layout | array | contents |
| --- | --- | --- |
| bgr8, rgb8 | (height, width, 3) | interleaved channels |
| yuyv | (height, width, 2), width even | Y U Y V: two pixels share their chroma (V4L2's YUYV) |
| nv12 | (height * 3 / 2, width), both even | a plane of Y, then rows of U V for 2x2 pixels |

Rows may be padded: the array's first stride is then longer than a row.

A format is a layout and, for Y'CbCr, an encoding and a range. "yuyv" is ITU-R BT.601 in limited
range (Y 16..235): V4L2's default for SDTV, and what most webcams send. "-709" is ITU-R BT.709,
"-full" is full range (Y 0..255): "nv12-709-full".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYOUTS = ("bgr8", "rgb8", "yuyv", "nv12")


@dataclass(frozen=True, slots=True)
class YCbCr:
    """Encoding and range of 8-bit Y'CbCr."""

    kr: float
    """Weight of red in the luma; `kb` is the weight of blue."""
    kb: float
    full_range: bool
    """Y and chroma use 0..255 (ITU-T T.871, JFIF). Otherwise Y uses 16..235, chroma 16..240."""

    @property
    def black(self) -> int:
        """Y of black."""
        return 0 if self.full_range else 16

    @property
    def luma_gain(self) -> float:
        return 1.0 if self.full_range else 255 / 219

    @property
    def chroma_gain(self) -> float:
        return 1.0 if self.full_range else 255 / 224

    def rgb_matrix(self) -> NDArray[np.float32]:
        """Return the (3, 4) matrix that maps (Y, Cb, Cr, 1) to R'G'B' on 0..255, not clipped.

        ITU-R BT.601-7, 2.5 and BT.709-6, 3: Y' = kr R' + kg G' + kb B' with kr + kg + kb = 1,
        Cr = (R' - Y') / (2 (1 - kr)), Cb = (B' - Y') / (2 (1 - kb)).
        """
        red = 2 * (1 - self.kr) * self.chroma_gain
        blue = 2 * (1 - self.kb) * self.chroma_gain
        kg = 1 - self.kr - self.kb
        chroma = np.array([[0, red], [-self.kb / kg * blue, -self.kr / kg * red], [blue, 0]])
        offsets = -self.black * self.luma_gain - 128 * chroma.sum(axis=1)
        luma = np.full(3, self.luma_gain)
        return np.column_stack((luma, chroma, offsets)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Layout and encoding of a pixel format."""

    layout: str
    """One of `LAYOUTS`."""
    ycbcr: YCbCr | None = None
    """None: R'G'B' in full range."""


def name_format(layout: str, *, bt709: bool = False, full_range: bool = False) -> str:
    """Return the format's name. R'G'B' layouts have neither encoding nor range."""
    if layout not in ("yuyv", "nv12"):
        return layout
    return layout + "-709" * bt709 + "-full" * full_range


def _list_formats() -> dict[str, PixelFormat]:
    formats = {layout: PixelFormat(layout) for layout in ("bgr8", "rgb8")}
    for layout in ("yuyv", "nv12"):
        for bt709, (kr, kb) in ((False, (0.299, 0.114)), (True, (0.2126, 0.0722))):
            for full_range in (False, True):
                name = name_format(layout, bt709=bt709, full_range=full_range)
                formats[name] = PixelFormat(layout, YCbCr(kr, kb, full_range))
    return formats


_FORMATS = _list_formats()
PIXEL_FORMATS = tuple(_FORMATS)
"""Names of all pixel formats."""
RGB_MATRICES = {
    name: entry.ycbcr.rgb_matrix() for name, entry in _FORMATS.items() if entry.ycbcr is not None
}
"""`YCbCr.rgb_matrix` of each Y'CbCr format, by name."""


def find_format(name: str) -> PixelFormat:
    """Return the format of this name. Raises ValueError for an unknown name."""
    try:
        return _FORMATS[name]
    except KeyError:
        known = ", ".join(PIXEL_FORMATS)
        raise ValueError(f"pixel format {name!r} is not one of {known}") from None


def image_size(image: NDArray[Any], pixel_format: str) -> tuple[int, int]:
    """Return (height, width) in pixels. Raises ValueError when the array is no such image."""
    shape = image.shape
    good = image.dtype == "uint8" and image.size > 0
    layout = find_format(pixel_format).layout
    if layout in ("bgr8", "rgb8"):
        if good and image.ndim == 3 and shape[2] == 3:
            return shape[0], shape[1]
        wanted = "uint8[height, width, 3]"
    elif layout == "yuyv":
        if good and image.ndim == 3 and shape[2] == 2 and shape[1] % 2 == 0:
            return shape[0], shape[1]
        wanted = "uint8[height, even width, 2]"
    else:
        if good and image.ndim == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0:
            return shape[0] // 3 * 2, shape[1]
        wanted = "uint8[height * 3 / 2, even width]"
    raise ValueError(f"{pixel_format} image {image.dtype}{list(shape)} must be {wanted}")
