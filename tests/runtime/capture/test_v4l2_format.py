"""The meaning of a driver's color fields; `test_v4l2_camera` has them on whole frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.kernels.pixels import PIXEL_FORMATS
from emotion_edge.runtime.capture.v4l2_format import name_pixel_format
from emotion_edge.runtime.capture.v4l2_uapi import PRIV_MAGIC, PixelFormat


def name(colorspace: int, encoding: int, quantization: int, priv: int = PRIV_MAGIC) -> str:
    pix = PixelFormat(
        colorspace=colorspace, ycbcr_enc=encoding, quantization=quantization, priv=priv
    )
    return name_pixel_format("yuyv", pix)


@pytest.mark.parametrize(
    ("colorspace", "expected"),
    [
        (0, "yuyv"),  # DEFAULT
        (1, "yuyv"),  # SMPTE170M
        (2, "yuyv-709"),  # SMPTE240M: nearest to BT.709
        (3, "yuyv-709"),  # REC709
        (4, "yuyv"),  # BT878
        (5, "yuyv"),  # 470_SYSTEM_M
        (6, "yuyv"),  # 470_SYSTEM_BG
        (7, "yuyv-full"),  # JPEG
        (8, "yuyv"),  # SRGB
        (9, "yuyv"),  # OPRGB
        (10, "yuyv-709"),  # BT2020: nearest to BT.709
        (11, "yuyv"),  # RAW
        (12, "yuyv-709"),  # DCI_P3
        (13, "yuyv"),  # not defined yet
    ],
)
def test_defaults_by_color_space(colorspace: int, expected: str) -> None:
    """As V4L2_MAP_YCBCR_ENC_DEFAULT and V4L2_MAP_QUANTIZATION_DEFAULT of linux/videodev2.h. A
    field that is stated takes precedence over the color space's default."""
    assert name(colorspace, 0, 0) == expected
    assert name(colorspace, 1, 2) == "yuyv"
    assert name(colorspace, 2, 1) == "yuyv-709-full"
    assert name(colorspace, 0, 1) == expected.removesuffix("-full") + "-full"
    assert name(colorspace, 2, 0) == "yuyv-709" + "-full" * (colorspace == 7)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (1, "yuyv"),  # 601
        (2, "yuyv-709"),  # 709
        (3, "yuyv"),  # XV601
        (4, "yuyv-709"),  # XV709
        (5, "yuyv"),  # SYCC
        (6, "yuyv-709"),  # BT2020
        (7, "yuyv-709"),  # BT2020_CONST_LUM
        (8, "yuyv-709"),  # SMPTE240M
    ],
)
def test_encodings(encoding: int, expected: str) -> None:
    """Each encoding of the kernel maps to a supported one."""
    assert name(1, encoding, 0) == expected


@pytest.mark.parametrize("wrong", [99, 128, 0xFFFFFFFF])
def test_undefined_numbers(wrong: int) -> None:
    """They count as not stated."""
    assert name(7, wrong, wrong) == "yuyv-full"
    assert name(3, wrong, wrong) == "yuyv-709"
    assert name(wrong, wrong, wrong) == "yuyv"


NUMBERS = st.integers(0, 0xFFFFFFFF)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_no_number_fails(colorspace: int, encoding: int, quantization: int, priv: int) -> None:
    """Any values of a driver give a format that the kernels read."""
    assert name(colorspace, encoding, quantization, priv) in PIXEL_FORMATS
