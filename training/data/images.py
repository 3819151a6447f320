"""Decoding of image files.

In: bytes or a member of an archive. Out: grey pixels of a given size, or None. In: a file. Out: RGB
pixels, or a DatasetError that names the file.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .media import MAX_SIDE_PX, fit_size

MAX_FACE_BYTES = 1 << 20
MAX_IMAGE_BYTES = 64 << 20


def decode_gray(encoded: bytes, size_px: int) -> NDArray[np.uint8] | None:
    """Decode PNG, WebP, JPEG, ... -> (size_px, size_px), None if it is not such an image."""
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        return None
    if image is None or image.shape != (size_px, size_px):
        return None
    return np.asarray(image, np.uint8)


def read_gray(archive: zipfile.ZipFile, name: str, size_px: int) -> NDArray[np.uint8] | None:
    """Decode a member of `archive` in the same way, None also if it is missing or too large."""
    try:
        info = archive.getinfo(name)
        if info.file_size > MAX_FACE_BYTES:
            return None
        return decode_gray(archive.read(info), size_px)
    # zipfile's errors for members that are damaged, encrypted or compressed by an unknown method.
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        return None


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read RGB (H, W, 3), rotated as its EXIF says, and shrunk to `MAX_SIDE_PX` if it is larger.
    Raises DatasetError."""
    try:
        num_bytes = path.stat().st_size
        if not 0 < num_bytes <= MAX_IMAGE_BYTES:
            raise DatasetError(f"{path}: {num_bytes} bytes, allowed: 1 to {MAX_IMAGE_BYTES}")
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "err", error)
        raise DatasetError(f"{path}: cannot be read: {reason}") from error
    if image is None:
        raise DatasetError(f"{path}: not an image that can be decoded")
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE_PX:
        image = cv2.resize(image, fit_size(width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1], np.uint8)
