"""Where a face pass reads an image: checks of its arguments, positions, and the part it needs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .pixels import find_format
from .reference import MAX_BILINEAR_STEP, MIN_ROLL_RAD, TAP_OFFSET, Box
from .spec import MAX_FACE_PX

FRACTION_BITS = 32
"""Positions are fixed-point numbers with 32 integer and 32 fraction bits: exact to 1e-7 of a pixel
at any image size, which float32 is not."""
_FAR = float(1 << 28)
"""A position this far out is outside every image."""


class Placement(NamedTuple):
    """The grid of a face's output pixels in the image, in fixed point; see `place_box`."""

    x: int
    y: int
    """Position of the first output pixel, the grid's origin."""
    right: int
    down: int
    """Step to the next output pixel of a row, along x and along y. The step to the next row is this
    one turned by 90 degrees: (-down, right)."""
    wide: int
    """1: an output pixel is the mean of the four pixels under its quarter points. 0: it is blended
    from the four neighbours of its position."""


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
        x, y, side, roll = box
        return x - self.left, y - self.top, side, roll


def check_faces(num_faces: int, size_px: int) -> None:
    """Raise ValueError for no faces, or an output size that the face pass does not support."""
    if num_faces == 0:
        raise ValueError("no face box is given")
    if size_px % 4 or not 0 < size_px <= MAX_FACE_PX:
        raise ValueError(f"face size {size_px} must be a multiple of 4 up to {MAX_FACE_PX}")


def check_box(box: Box, height: int, width: int) -> None:
    """Raise ValueError for a box (x, y, side, roll) that is not finite or whose side is out of
    range."""
    x, y, side, roll = box
    limit = 4 * max(width, height)
    if not (1.0 <= side <= limit and math.isfinite(x) and math.isfinite(y) and math.isfinite(roll)):
        raise ValueError(f"face box {box} must be finite, its side in 1..{limit}")


def place_box(box: Box, size_px: int) -> Placement:
    """Place the output pixels of a box as `reference.taps` and `reference.turned_taps` do.

    Output pixel (i, j), row and column, lies at x + j right - i down, y + j down + i right. Its
    quarter points lie a quarter of a step from there, along the row and across.
    """
    x, y, side, roll = box
    step = side / size_px
    wide = step >= MAX_BILINEAR_STEP
    cos, sin = (1.0, 0.0) if abs(roll) < MIN_ROLL_RAD else (math.cos(roll), math.sin(roll))
    to_first = 0.5 * (step - side)  # from the centre, along the row and across
    shift = 0.5 * side + (TAP_OFFSET if wide else -0.5)
    return Placement(
        _to_fixed(x + shift + to_first * (cos - sin)),
        _to_fixed(y + shift + to_first * (cos + sin)),
        _to_fixed(step * cos),
        _to_fixed(step * sin),
        int(wide),
    )


def _to_fixed(place: float) -> int:
    """Convert a position to fixed point, limited to `_FAR`."""
    return round(min(max(place, -_FAR), _FAR) * (1 << FRACTION_BITS))


def find_crop(box: Box, size_px: int, height: int, width: int) -> Crop:
    """Find the smallest rectangle that holds every pixel that the reference reads for the box.

    The face pass on this rectangle, with the box moved, gives the same face. Where the rectangle
    ends inside the image, no tap lies beyond. Where it ends at the border, the border's pixel is
    its last pixel.
    """
    x, y, side, roll = box
    step = side / size_px
    reach = 0.5 * side - (0.25 if step >= MAX_BILINEAR_STEP else 0.5) * step
    if abs(roll) >= MIN_ROLL_RAD:
        reach *= abs(math.cos(roll)) + abs(math.sin(roll))
        reach += TAP_OFFSET  # for a corner whose position is rounded outwards
    left, right = _find_span(x + 0.5 * side, reach, step, width)
    top, bottom = _find_span(y + 0.5 * side, reach, step, height)
    return Crop(left, top, right, bottom)


def _find_span(centre: float, reach: float, step: float, limit: int) -> tuple[int, int]:
    first, last = centre - reach, centre + reach
    if step < MAX_BILINEAR_STEP:
        first -= 0.5
        last += 0.5  # plus one pixel for the second tap of the last pair
    else:
        first += TAP_OFFSET
        last += TAP_OFFSET
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
