"""The pixel formats: their names, layouts, encodings and array shapes."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.kernels.pixels import (
    LAYOUTS,
    PIXEL_FORMATS,
    RGB_MATRICES,
    find_format,
    image_size,
    name_format,
)


def test_names_state_encoding_and_range() -> None:
    """Two R'G'B' layouts; two Y'CbCr layouts in two encodings and two ranges. BT.601 in limited
    range has the plain name."""
    assert len(set(PIXEL_FORMATS)) == 2 + 2 * 2 * 2
    assert set(LAYOUTS) < set(PIXEL_FORMATS)
    for name in PIXEL_FORMATS:
        layout, *words = name.split("-")
        assert find_format(name).layout == layout
        ycbcr = find_format(name).ycbcr
        if ycbcr is None:
            assert name in ("bgr8", "rgb8")
        else:
            assert (ycbcr.kr == 0.2126, ycbcr.full_range) == ("709" in words, "full" in words)
            assert name_format(layout, bt709="709" in words, full_range="full" in words) == name
    for name in ("bgr8", "rgb8"):  # R'G'B' has neither
        assert name_format(name, bt709=True, full_range=True) == name


def test_sizes_are_those_of_the_layout() -> None:
    """In every encoding. A wrong shape and an unknown format are named."""
    for name in PIXEL_FORMATS:
        layout = find_format(name).layout
        shape = {"yuyv": (4, 6, 2), "nv12": (6, 6)}.get(layout, (4, 6, 3))
        assert image_size(np.zeros(shape, np.uint8), name) == (4, 6)
        with pytest.raises(ValueError, match=name):
            image_size(np.zeros((4, 6, 4), np.uint8), name)
    with pytest.raises(ValueError, match="uyvy"):
        image_size(np.zeros((4, 6, 2), np.uint8), "uyvy")


def test_matrices_map_gray_to_gray() -> None:
    """Chroma 128 is gray in every encoding: the three rows then agree."""
    assert set(RGB_MATRICES) == {name for name in PIXEL_FORMATS if find_format(name).ycbcr}
    for name, matrix in RGB_MATRICES.items():
        full = name.endswith("-full")
        for luma, grey in ((0, 0), (255, 255)) if full else ((16, 0), (235, 255)):
            rgb = matrix @ np.array([luma, 128, 128, 1])
            np.testing.assert_allclose(rgb, [grey] * 3, atol=1e-3)
