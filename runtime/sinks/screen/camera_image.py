"""A camera's picture made small for the screen: any of our pixel formats in, 0x00RRGGBB out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ....kernels.bgr_image import resize_to_bgr
from ....kernels.pixels import image_size
from ...messages import VideoFrame


def scale_frame(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint32]:
    """As large as fits into width x height, left and right as in a mirror: uint32 (rows, columns).

    Raises ValueError when the frame is no picture.
    """
    rows, columns = image_size(frame.image, frame.format)
    scale = min(width / columns, height / rows)
    size = max(1, int(columns * scale)), max(1, int(rows * scale))
    small = resize_to_bgr(frame.image, frame.format, *size, cv2.INTER_AREA)
    bgrx = cv2.cvtColor(cv2.flip(small, 1), cv2.COLOR_BGR2BGRA)
    return bgrx.view(np.uint32)[..., 0] & np.uint32(0xFFFFFF)
