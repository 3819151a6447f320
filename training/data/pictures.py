"""Encoded pictures to pixels, whatever is wrong with them.

In: bytes or a member of an archive, one of thousands: grey pixels of the wanted size, or None. In:
a file: colour, or a DatasetError that names it.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .media import MAX_SIDE_PX

MAX_FACE_BYTES = 1 << 20
MAX_IMAGE_BYTES = 64 << 20


def decode_gray(encoded: bytes, size_px: int) -> NDArray[np.uint8] | None:
    """PNG, WebP, JPEG, ... -> (size_px, size_px); None when it is not such a picture."""
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        return None
    if image is None or image.shape != (size_px, size_px):
        return None
    return np.asarray(image, np.uint8)


def read_gray(archive: zipfile.ZipFile, name: str, size_px: int) -> NDArray[np.uint8] | None:
    """The same for a member of `archive`; None as well when it is not there or very large."""
    try:
        info = archive.getinfo(name)
        if info.file_size > MAX_FACE_BYTES:
            return None
        return decode_gray(archive.read(info), size_px)
    # zipfile's own way to say that a picture is damaged, encrypted or packed in an unknown manner.
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        return None


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) red first, the way up that its EXIF says. Raises DatasetError."""
    try:
        num_bytes = path.stat().st_size
        if not 0 < num_bytes <= MAX_IMAGE_BYTES:
            raise DatasetError(f"{path}: {num_bytes} bytes, allowed: 1 to {MAX_IMAGE_BYTES}")
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "err", error)
        raise DatasetError(f"{path}: cannot be read: {reason}") from error
    if image is None or max(image.shape) > MAX_SIDE_PX:
        raise DatasetError(f"{path}: not a picture of up to {MAX_SIDE_PX}x{MAX_SIDE_PX} pixels")
    return np.ascontiguousarray(image[..., ::-1], np.uint8)
