"""Frames of every pixel format as BGR images, compared with the reference implementation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.bgr_image import resize_to_bgr
from emotion_edge.kernels.pixels import PIXEL_FORMATS, find_format
from emotion_edge.kernels.reference import to_rgb

SHAPES = {"bgr8": (48, 64, 3), "rgb8": (48, 64, 3), "yuyv": (48, 64, 2), "nv12": (72, 64)}


def make_blocks(pixel_format: str, padding: int) -> NDArray[np.uint8]:
    """Return blocks of 16x16 pixels of one color each, some of them outside R'G'B'."""
    shape = SHAPES[find_format(pixel_format).layout]
    height = 48 if len(shape) == 3 else 72
    numbers = np.random.default_rng(3).integers(0, 256, (height // 8, 4, 3))
    if len(shape) == 2:  # luma and interleaved chroma
        luma = numbers[:3, :, 0].repeat(16, axis=0).repeat(16, axis=1)
        chroma = numbers[:3, :, 1:].repeat(8, axis=0).repeat(8, axis=1).reshape(24, 64)
        image = np.concatenate((luma, chroma))
    else:
        image = numbers[:3].repeat(16, axis=0).repeat(16, axis=1)
        if shape[2] == 2:
            chroma = image[:, ::2, 1:].reshape(48, 64)
            image = np.stack((image[..., 0], chroma), axis=-1)
    memory = np.zeros((shape[0], shape[1] + padding, *shape[2:]), np.uint8)
    memory[:, : shape[1]] = image
    return memory[:, : shape[1]]


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_AREA])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_colors_equal_reference(pixel_format: str, padding: int, interpolation: int) -> None:
    """At full and half size, the middle of each block has its own color."""
    image = make_blocks(pixel_format, padding)
    want = to_rgb(image, pixel_format)[8::16, 8::16]
    for scale in (1, 2):
        got = resize_to_bgr(image, pixel_format, 64 // scale, 48 // scale, interpolation)
        assert got.dtype == np.uint8
        middles = got[8 // scale :: 16 // scale, 8 // scale :: 16 // scale, ::-1]
        np.testing.assert_allclose(middles, want, atol=1)


def test_not_an_image_of_the_format() -> None:
    """Refused before OpenCV is called."""
    with pytest.raises(ValueError, match="yuyv-709"):
        resize_to_bgr(np.zeros((4, 4, 3), np.uint8), "yuyv-709", 2, 2)
