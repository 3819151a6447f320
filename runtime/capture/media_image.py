"""The image of a decoded video frame: upright, of square pixels and not too large.

In: a PyAV frame, the shape of its pixels, and how it is to be shown. Out: bgr8 (H, W, 3).
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SIDE_PX = 4096
_SHRUNK_SIDE_PX = 2560
"""Larger frames are shrunk by a whole number to at most this."""
_MAX_ASPECT = 8
"""A pixel that is longer than this is a mistake of the file."""
_MAX_EXIF_BYTES = 32_000_000

Matrix = tuple[int, int, int, int]
"""Rows (a, b), (c, d): x and y of the file become a x + c y and b x + d y on display."""
UPRIGHT: Matrix = (1, 0, 0, 1)

# The orientation tag of EXIF, 1 to 8.
_EXIF: dict[int, Matrix] = {
    1: UPRIGHT,
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def fit_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size of an image of square pixels. `aspect`: width of a stored pixel by its
    height, None or 0 where unknown. The image loses no resolution unless it is larger than
    `MAX_SIDE_PX`."""
    fitted_w, fitted_h = Fraction(width), Fraction(height)
    if aspect and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        if aspect > 1:
            fitted_w *= aspect
        else:
            fitted_h /= aspect
    longest = max(fitted_w, fitted_h)
    if longest > MAX_SIDE_PX:
        by = -(-longest // _SHRUNK_SIDE_PX)
        fitted_w, fitted_h = fitted_w / by, fitted_h / by
    return max(1, round(fitted_w)), max(1, round(fitted_h))


def to_image(frame: Any, aspect: Fraction | None) -> NDArray[np.uint8]:
    """Convert a frame to bgr8 of square pixels, not yet upright."""
    width, height = fit_size(frame.width, frame.height, aspect)
    if (width, height) == (frame.width, frame.height):
        image: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
    else:
        image = frame.to_ndarray(format="bgr24", width=width, height=height, interpolation="AREA")
    return image


def turn_upright(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Rotate and flip an image as `matrix` says."""
    a, b, c, d = matrix
    if abs(b) > abs(a):  # rows become columns
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)  # rows of an odd width are padded


class MatrixReader:
    """Reads how the frames of one track are to be shown."""

    def __init__(self, still: Path | None = None) -> None:
        """`still`: the file, where it is a single image."""
        self._still = still
        self._rotation: float | None = None
        self._matrix = UPRIGHT

    def read(self, frame: Any) -> Matrix:
        """Return how a frame is to be shown: turned by multiples of 90 degrees, flipped or not."""
        # A frame whose side data were read refers to itself, so it stays until a garbage
        # collection: in a file of 720p that would hold 300 MB.
        rotation = getattr(frame, "rotation", 0)  # PyAV < 14 does not read it
        if rotation != self._rotation:
            self._rotation = rotation
            self._matrix = _read_matrix(frame, self._still)
        return self._matrix


def _read_matrix(frame: Any, still: Path | None) -> Matrix:
    try:
        entries = [each for each in frame.side_data if each.type.name == "DISPLAYMATRIX"]
    except ValueError:  # PyAV 18 does not know the kind of an image's EXIF
        exif = _read_exif(still) if still is not None else None
        return exif or _from_rotation(frame)
    if not entries:
        return _from_rotation(frame)
    # Three rows of three; the numbers of the last column are of another format, and 0 here.
    stored = struct.unpack("=9i", bytes(entries[0])[:36])
    return _snap(*stored[0:2], *stored[3:5])


def _from_rotation(frame: Any) -> Matrix:
    # Degrees counterclockwise.
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return (UPRIGHT, (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[turns]


def _snap(a: int, b: int, c: int, d: int) -> Matrix:
    def sign(number: int) -> int:
        return -1 if number < 0 else 1

    if a == b == c == d == 0:
        return UPRIGHT
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (0, sign(b), sign(c), 0)
    return (sign(a), 0, 0, sign(d))


def _read_exif(path: Path) -> Matrix | None:
    """Return the orientation that the EXIF data of a JPEG, PNG or WebP file states."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_EXIF_BYTES)
        for mark, skip in ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8)):
            at = data.find(mark)
            if at >= 0:
                return _EXIF.get(_find_orientation(data[at + skip : at + skip + 65536]), UPRIGHT)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _EXIF.get(_find_orientation(data), UPRIGHT)
    except (OSError, struct.error):
        pass
    return None


def _find_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    (entries,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(entries):
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * entry)
        if tag == 0x112:
            return int(value)
    return 1
