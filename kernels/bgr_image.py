"""Camera frames as small 8-bit BGR images, for face detectors and screens, made by OpenCV.

The emotion networks' input does not come from here but from the face pass, which does not round.
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
    """Resize an image as in `pixels` -> uint8 (height, width, 3), B G R.

    Y'CbCr is resized first, then converted with the format's own matrix: OpenCV converts BT.601 in
    limited range only. Raises ValueError when the array is not an image of this format.
    """
    rows, _ = image_size(image, pixel_format)
    size = (width, height)
    matrix = RGB_MATRICES.get(pixel_format)
    if matrix is None:
        small = cv2.resize(image, size, interpolation=interpolation)
        if pixel_format == "rgb8":
            small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        return np.asarray(small, np.uint8)
    # `channels`: the positions of Y, Cb and Cr among the channels of luma and chroma together.
    if find_format(pixel_format).layout == "yuyv":
        # Resizing the interleaved bytes costs less than separating Y, Cb and Cr first.
        luma, chroma, channels = image, image.reshape(rows, -1, 4), (0, 3, 5)
    else:
        luma, chroma, channels = image[:rows], image[rows:].reshape(rows // 2, -1, 2), (0, 1, 2)
    parts = [cv2.resize(part, size, interpolation=interpolation) for part in (luma, chroma)]
    ycbcr = np.empty((height, width, 3), np.uint8)
    y, u, v = channels
    cv2.mixChannels(parts, [ycbcr], (y, 0, u, 1, v, 2))
    return np.asarray(cv2.transform(ycbcr, matrix[::-1]), np.uint8)
