"""How an image lies in memory: the pixel formats that cameras give and both face passes read.

| layout | array | what it is |
| --- | --- | --- |
| bgr8, rgb8 | (height, width, 3) | interleaved colours |
| yuyv | (height, width, 2), width even | Y U Y V: two pixels share a colour (V4L2's YUYV) |
| nv12 | (height * 3 / 2, width), both even | a plane of Y, then rows of U V for 2x2 pixels |

Rows may lie further apart than they are long (the array's first stride).

A format is a layout and, for Y'CbCr, how its numbers stand for colours: "yuyv" is ITU-R BT.601 in
limited range (Y 16..235), what V4L2 calls the default of SDTV and most webcams give. "-709" is
ITU-R BT.709, "-full" is full range (Y 0..255): "nv12-709-full".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYOUTS = ("bgr8", "rgb8", "yuyv", "nv12")


@dataclass(frozen=True, slots=True)
class YCbCr:
    """How Y'CbCr of 8 bits stands for R'G'B'."""

    kr: float
    """Share of red in the luma, `kb` that of blue."""
    kb: float
    full_range: bool
    """Y and the chroma use 0..255 (ITU-T T.871, JFIF), else Y 16..235 and the chroma 16..240."""

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
        """(3, 4): times (Y, Cb, Cr, 1) it is R'G'B' on 0..255, not clipped.

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
    """What a format's name stands for."""

    layout: str
    """One of `LAYOUTS`."""
    ycbcr: YCbCr | None = None
    """None: R'G'B' in full range."""


def name_format(layout: str, *, bt709: bool = False, full_range: bool = False) -> str:
    """The format's name; R'G'B' has but one."""
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
"""All names."""
RGB_MATRICES = {
    name: entry.ycbcr.rgb_matrix() for name, entry in _FORMATS.items() if entry.ycbcr is not None
}
"""`YCbCr.rgb_matrix` of each format that is Y'CbCr."""


def find_format(name: str) -> PixelFormat:
    """Raises ValueError when there is no format of this name."""
    try:
        return _FORMATS[name]
    except KeyError:
        known = ", ".join(PIXEL_FORMATS)
        raise ValueError(f"pixel format {name!r} is not one of {known}") from None


def image_size(image: NDArray[Any], pixel_format: str) -> tuple[int, int]:
    """(height, width) in pixels. Raises ValueError when the array cannot be such an image."""
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
    raise ValueError(f"{pixel_format} picture {image.dtype}{list(shape)} must be {wanted}")
