"""The camera's picture for the screen, from every pixel format."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.pixels import PIXEL_FORMATS, find_format
from emotion_edge.kernels.reference import to_rgb
from emotion_edge.runtime.messages import VideoFrame
from emotion_edge.runtime.sinks.screen.view import scale_frame

SHAPES = {"bgr8": (48, 64, 3), "rgb8": (48, 64, 3), "yuyv": (48, 64, 2), "nv12": (72, 64)}


def make_image(pixel_format: str) -> NDArray[np.uint8]:
    """Left half one colour, right half another: blocks that every format keeps apart."""
    image = np.full(SHAPES[find_format(pixel_format).layout], 90, np.uint8)
    image[:, 32:] = 160
    return image


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_every_format(pixel_format: str) -> None:
    """The colours are those of the reference, left and right are as in a mirror."""
    image = make_image(pixel_format)
    small = scale_frame(VideoFrame(0, 0, image, pixel_format), 32, 24)
    assert small.shape == (24, 32)
    assert small.dtype == np.uint32
    wanted = to_rgb(image, pixel_format)
    for x, from_x in ((2, 60), (30, 3)):
        rgb = [int(small[12, x]) >> shift & 255 for shift in (16, 8, 0)]
        assert np.abs(np.array(rgb) - wanted[24, from_x]).max() < 3


@pytest.mark.parametrize(
    ("room", "size"), [((32, 100), (24, 32)), ((100, 12), (12, 16)), ((1, 1), (1, 1))]
)
def test_fits_and_keeps_its_shape(room: tuple[int, int], size: tuple[int, int]) -> None:
    """As large as the room lets it be."""
    frame = VideoFrame(0, 0, make_image("bgr8"))
    assert scale_frame(frame, *room).shape == size


def test_rows_further_apart() -> None:
    """A driver's padding is not part of the picture."""
    memory = np.zeros((48, 100, 3), np.uint8)
    memory[:, :64] = 200
    small = scale_frame(VideoFrame(0, 0, memory[:, :64]), 64, 48)
    assert (small == 0xC8C8C8).all()


def test_unsupported_image_is_refused() -> None:
    """Not one of our formats."""
    with pytest.raises(ValueError, match="must be uint8"):
        scale_frame(VideoFrame(0, 0, np.zeros((4, 4), np.uint8), "bgr8"), 10, 10)
