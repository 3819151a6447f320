"""The part of an image that a face pass reads, and the checks of its arguments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .pixels import find_format
from .reference import MAX_BILINEAR_STEP, TAP_OFFSET
from .spec import MAX_FACE_PX

Box = tuple[float, float, float]


class Crop(NamedTuple):
    """A rectangle of pixels in whole 2x2 chroma groups; `right` and `bottom` are excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def move(self, box: Box) -> Box:
        """Return the box relative to the rectangle's top left corner."""
        return box[0] - self.left, box[1] - self.top, box[2]


def check_size(size_px: int) -> None:
    """Raise ValueError for an output size that the face pass does not support."""
    if size_px % 4 or not 0 < size_px <= MAX_FACE_PX:
        raise ValueError(f"face size {size_px} must be a multiple of 4 up to {MAX_FACE_PX}")


def check_box(box: Box, height: int, width: int) -> None:
    """Raise ValueError for a box (x, y, side) that is not finite or whose side is out of range."""
    x, y, side = box
    limit = 4 * max(width, height)
    if not (1.0 <= side <= limit and math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"face box {box} must be finite, its side in 1..{limit}")


def find_crop(box: Box, size_px: int, height: int, width: int) -> Crop:
    """Find the smallest rectangle that holds every pixel of `reference.taps` for the box.

    The face pass on this rectangle, with the box moved, gives the same face. Where the rectangle
    ends inside the image, no tap lies beyond. Where it ends at the border, the border's pixel is
    its last pixel.
    """
    x, y, side = box
    left, right = _find_span(x, side, size_px, width)
    top, bottom = _find_span(y, side, size_px, height)
    return Crop(left, top, right, bottom)


def _find_span(origin: float, side: float, size_px: int, limit: int) -> tuple[int, int]:
    step = side / size_px
    if step < MAX_BILINEAR_STEP:
        first = origin + 0.5 * step - 0.5
        last = (
            origin + (size_px - 0.5) * step + 0.5
        )  # plus one pixel for the second tap of the last pair
    else:
        first = origin + 0.25 * step + TAP_OFFSET
        last = origin + (size_px - 0.25) * step + TAP_OFFSET
    low, high = (math.floor(min(max(place, 0.0), limit - 1.0)) for place in (first, last))
    return low - low % 2, min(high + 2 - high % 2, limit)


def view_crop(
    image: NDArray[Any], pixel_format: str, height: int, crop: Crop
) -> list[NDArray[Any]]:
    """Return views of the bytes of `crop`: one block (rows, columns, ...), for nv12 luma and
    chroma."""
    columns = slice(crop.left, crop.right)
    blocks = [image[crop.top : crop.bottom, columns]]
    if find_format(pixel_format).layout == "nv12":
        blocks.append(image[height + crop.top // 2 : height + crop.bottom // 2, columns])
    return blocks
