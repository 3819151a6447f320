"""A camera's frame as a small BGR image: for face detectors and screens, by OpenCV.

The networks' input is made by the face pass, which rounds nothing; this serves who looks at whole
frames and wants bytes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .pixels import RGB_MATRICES, find_format, image_size

Bytes = NDArray[np.uint8]


def resize_to_bgr(
    image: Bytes, pixel_format: str, width: int, height: int, interpolation: int = cv2.INTER_LINEAR
) -> Bytes:
    """Image as in `pixels` -> uint8 (height, width, 3), B G R, in the format's own encoding.

    Y'CbCr is resized first and converted then: OpenCV's own conversions know BT.601 in limited
    range only. Raises ValueError when the array cannot be such an image.
    """
    rows, _ = image_size(image, pixel_format)
    size = (width, height)
    matrix = RGB_MATRICES.get(pixel_format)
    if matrix is None:
        small = cv2.resize(image, size, interpolation=interpolation)
        if pixel_format == "rgb8":
            small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        return np.asarray(small, np.uint8)
    # Where Y, Cb and Cr are among the channels of both parts.
    if find_format(pixel_format).layout == "yuyv":
        # Resized with what lies between, which is less work than to take it apart first.
        luma, chroma, channels = image, image.reshape(rows, -1, 4), (0, 3, 5)
    else:
        luma, chroma, channels = image[:rows], image[rows:].reshape(rows // 2, -1, 2), (0, 1, 2)
    parts = [cv2.resize(part, size, interpolation=interpolation) for part in (luma, chroma)]
    ycbcr = np.empty((height, width, 3), np.uint8)
    y, u, v = channels
    cv2.mixChannels(parts, [ycbcr], (y, 0, u, 1, v, 2))
    return np.asarray(cv2.transform(ycbcr, matrix[::-1]), np.uint8)
