"""How a picture lies in memory: the pixel formats that cameras give and both face passes read.

| name | array | what it is |
| --- | --- | --- |
| bgr8, rgb8 | (height, width, 3) | interleaved colours |
| yuyv | (height, width, 2), width even | Y U Y V: two pixels share a colour (V4L2's YUYV) |
| nv12 | (height * 3 / 2, width), both even | a plane of Y, then rows of U V for 2x2 pixels |

Rows may lie further apart than they are long (the array's first stride). YUV is ITU-R BT.601 in
its video range, Y 16..235: what V4L2 calls the default of SDTV and nearly every webcam gives.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

FORMATS = ("bgr8", "rgb8", "yuyv", "nv12")


def picture_size(image: NDArray[Any], pixel_format: str) -> tuple[int, int]:
    """(height, width) in pixels. Raises ValueError when the array cannot be such a picture."""
    shape = image.shape
    good = image.dtype == "uint8" and image.size > 0
    if pixel_format in ("bgr8", "rgb8"):
        if good and image.ndim == 3 and shape[2] == 3:
            return shape[0], shape[1]
        wanted = "uint8[height, width, 3]"
    elif pixel_format == "yuyv":
        if good and image.ndim == 3 and shape[2] == 2 and shape[1] % 2 == 0:
            return shape[0], shape[1]
        wanted = "uint8[height, even width, 2]"
    elif pixel_format == "nv12":
        if good and image.ndim == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0:
            return shape[0] // 3 * 2, shape[1]
        wanted = "uint8[height * 3 / 2, even width]"
    else:
        raise ValueError(f"pixel format {pixel_format!r} is not one of {', '.join(FORMATS)}")
    raise ValueError(f"{pixel_format} picture {image.dtype}{list(shape)} must be {wanted}")
