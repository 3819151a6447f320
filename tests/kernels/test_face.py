"""Parity of every preprocessor's face pass with the reference implementation, and its contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotion_edge.kernels import Preprocessor, reference
from emotion_edge.kernels.crop import find_crop
from emotion_edge.kernels.pixels import LAYOUTS, PIXEL_FORMATS, find_format
from emotion_edge.kernels.spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec

from .tensors import read_tensor

TOLERANCE = 1e-4
SPEC = ImageSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.25, 0.3))  # the fixture's
Box = tuple[float, float, float]
OpenWith = Callable[[ImageSpec, MelSpec], Preprocessor]
RNG = np.random.default_rng(0)
FRAME = RNG.integers(0, 256, (181, 321, 3), dtype=np.uint8)


def make_image(
    height: int, width: int, pixel_format: str, padding: int = 0, seed: int = 0
) -> NDArray[np.uint8]:
    """Return noise with `padding` pixels after each row. Sizes are rounded up to even where the
    format needs it."""
    rng = np.random.default_rng(seed)
    layout = find_format(pixel_format).layout
    if layout in ("bgr8", "rgb8"):
        shape: tuple[int, ...] = (height, width, 3)
    elif layout == "yuyv":
        shape = (height, width + width % 2, 2)
    else:
        shape = ((height + height % 2) * 3 // 2, width + width % 2)
    padded = (shape[0], shape[1] + padding, *shape[2:])
    return rng.integers(0, 256, padded, dtype=np.uint8)[:, : shape[1]]


def assert_same(
    preprocessor: Preprocessor,
    image: NDArray[np.uint8],
    box: Box,
    size_px: int = 16,
    pixel_format: str = "bgr8",
) -> None:
    got = read_tensor(preprocessor.face(image, box, size_px, pixel_format))
    want = reference.face_tensor(image, box, size_px, SPEC, pixel_format)
    assert got.shape == (1, *want.shape)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size_px", range(MIN_FACE_PX, MAX_FACE_PX + 1, 4))
def test_every_size_equals_reference(quick_preprocessor: Preprocessor, size_px: int) -> None:
    """All sizes a bundle may have, enlarged and reduced, in both channel orders."""
    for box, pixel_format in (
        ((30.3, 20.7, 100.2), "bgr8"),
        ((-7.0, -40.5, 330.0), "rgb8"),
    ):
        assert_same(quick_preprocessor, FRAME, box, size_px, pixel_format)


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
@pytest.mark.parametrize("padding", [0, 7])
def test_every_format_equals_reference(
    preprocessor: Preprocessor, pixel_format: str, padding: int
) -> None:
    """Odd sizes where the format allows them, padded rows; boxes inside, over each edge, outside,
    of one pixel, of the whole image, with small and large steps."""
    image = make_image(75, 101, pixel_format, padding)
    for box in (
        (30.3, 20.7, 41.2),
        (-7.5, -9.25, 60.0),
        (80.1, 50.2, 60.0),
        (-200.0, 300.0, 64.0),
        (44.6, 33.3, 1.0),
        (-3.0, -20.0, 130.0),
        (0.0, 0.0, 40.0),  # a step of exactly 2.5
    ):
        assert_same(preprocessor, image, box, pixel_format=pixel_format)


@pytest.mark.parametrize("side", [208.0, 512.0])
def test_points_between_pixels_are_the_second_ones(preprocessor: Preprocessor, side: float) -> None:
    """Rounding must not matter: 208 / 36 is no binary fraction and 2.25 times it is 13, so a
    quarter point lies exactly between two pixels."""
    image = make_image(520, 520, "rgb8")
    for corner in (0.0, 5.0):
        assert_same(preprocessor, image, (corner, corner, side), 36, "rgb8")


@settings(max_examples=150)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    x=st.floats(-300, 300),
    y=st.floats(-300, 300),
    share=st.floats(0, 1),
    size_px=st.sampled_from([32, 36, 64, 112]),
    pixel_format=st.sampled_from(PIXEL_FORMATS),
    padding=st.sampled_from([0, 5]),
    seed=st.integers(0, 99),
)
def test_any_box_equals_reference(
    quick_preprocessor: Preprocessor,
    height: int,
    width: int,
    x: float,
    y: float,
    share: float,
    size_px: int,
    pixel_format: str,
    padding: int,
    seed: int,
) -> None:
    """Images down to one pixel; boxes from one pixel to four images, partly or wholly outside. The
    border's pixel is repeated."""
    image = make_image(height, width, pixel_format, padding, seed)
    side = 1 + share * (4 * max(height, width) - 1)
    assert_same(quick_preprocessor, image, (x, y, side), size_px, pixel_format)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 2.0, 2.4999, 2.5, 2.5001, 3.0, 5.0, 17.0])
def test_any_shrinking_equals_reference(quick_preprocessor: Preprocessor, factor: float) -> None:
    """Below, at and above the step from which two pixels are averaged."""
    for corner in (0.0, 0.25, 10.5, -3.75):  # quarters: where the quarter points meet pixel edges
        side = factor * 64
        assert_same(quick_preprocessor, FRAME, (corner, corner, side), 64)


@pytest.mark.parametrize("x", [1e30, -1e30, 1e9, -1e9])
@pytest.mark.parametrize("side", [20.0, 300.0])
def test_box_far_outside_sees_the_border(preprocessor: Preprocessor, x: float, side: float) -> None:
    """No position overflows."""
    assert_same(preprocessor, FRAME, (x, -x, side))


def test_unusual_memory_layouts_equal_reference(preprocessor: Preprocessor) -> None:
    """Read-only, every second pixel, mirrored, part of a larger image, Fortran order."""
    frozen = FRAME.copy()
    frozen.flags.writeable = False
    for image in (
        frozen,
        FRAME[::2, ::2],
        FRAME[:, ::-1],
        FRAME[10:90, 20:200],
        np.asfortranarray(FRAME),
        FRAME[..., ::-1],
    ):
        assert_same(preprocessor, image, (5.5, 7.25, 70.0))


def test_image_size_may_change(preprocessor: Preprocessor) -> None:
    """Wide, narrow, wide again, and the other channel order: no stale scratch memory."""
    for width, order in ((321, "bgr"), (40, "bgr"), (321, "bgr"), (321, "rgb"), (40, "rgb")):
        assert_same(preprocessor, FRAME[:, :width], (3.0, 4.0, 60.0), 16, f"{order}8")


def test_channels_and_scaling_are_what_the_spec_says(open_with: OpenWith) -> None:
    """One color in, `(pixel / 255 - mean) / std` in the order R G B out, by hand."""
    spec = ImageSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    red_green_blue = np.array([250, 100, 30], np.uint8)
    want = (red_green_blue / 255 - np.array(spec.mean)) / np.array(spec.std)
    preprocessor = open_with(spec, MelSpec())
    for pixel_format in ("bgr8", "rgb8"):
        image = np.empty((40, 50, 3), np.uint8)
        image[:] = red_green_blue[::-1] if pixel_format == "bgr8" else red_green_blue
        got = read_tensor(preprocessor.face(image, (5.0, 5.0, 30.0), 16, pixel_format))
        np.testing.assert_allclose(got[0], np.tile(want[:, None, None], (16, 16)), atol=1e-5)


def test_reference_is_bilinear() -> None:
    """On a gradient the pixels are at the expected positions, to 0.01 pixels; an image that is its
    own box is unchanged."""
    slope = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
    plain = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    out = reference.face_tensor(slope, (20.0, 10.0, 48.0), 32, plain)
    centres = 20.0 + (np.arange(32) + 0.5) * 48 / 32 - 0.5
    np.testing.assert_allclose(out[0, 7] * 255, centres, atol=0.01)
    same = reference.face_tensor(FRAME[:64, :64], (0.0, 0.0, 64.0), 64, plain, "rgb8")
    np.testing.assert_allclose(same.transpose(1, 2, 0) * 255, FRAME[:64, :64], atol=1e-3)


@settings(max_examples=30)
@given(origin=st.floats(-50, 50), side=st.floats(1, 400), limit=st.integers(1, 60))
@example(origin=0.0, side=2.5 * 32, limit=60)
def test_taps_stay_inside(origin: float, side: float, limit: int) -> None:
    """Both source positions are pixels of the image, in order; weights lie in 0..1."""
    first, second, share = reference.taps(origin, side, 32, limit)
    assert first.min() >= 0
    assert second.max() < limit
    assert (first <= second).all()
    assert (np.diff(first) >= 0).all()
    assert share.min() >= 0
    assert share.max() <= 1


def test_output_is_reused_per_size(preprocessor: Preprocessor) -> None:
    """The next call of the same size overwrites the tensor; another size has its own."""
    first = preprocessor.face(FRAME, (0.0, 0.0, 50.0), 16)
    kept = read_tensor(first)
    assert preprocessor.face(FRAME, (0.0, 0.0, 50.0), 20) is not first
    np.testing.assert_array_equal(read_tensor(first), kept)
    assert preprocessor.face(FRAME, (90.0, 90.0, 50.0), 16) is first
    assert np.abs(read_tensor(first) - kept).max() > 0.1


@settings(max_examples=300)
@given(
    origin=st.floats(-300, 300),
    side=st.floats(1, 400),
    limit=st.integers(1, 100),
    size_px=st.sampled_from([32, 36, 112]),
)
@example(origin=0.0, side=512.0, limit=100, size_px=36)
def test_crop_holds_every_tap(origin: float, side: float, limit: int, size_px: int) -> None:
    """And no more than the chroma group around the outermost two."""
    first, second, _ = reference.taps(origin, side, size_px, limit)
    crop = find_crop((origin, origin, side), size_px, limit, limit)
    assert (crop.left, crop.right) == (crop.top, crop.bottom)
    assert crop.left == first.min() - first.min() % 2
    assert max(second.max(), first.max()) < crop.right <= min(second.max() + 2, limit)


KNOWN_COLORS = {
    "": {
        (16, 128, 128): (0, 0, 0),
        (235, 128, 128): (255, 255, 255),
        (81, 90, 240): (255, 0, 0),
        (145, 54, 34): (0, 255, 0),
        (41, 240, 110): (0, 0, 255),
    },
    "-full": {
        (0, 128, 128): (0, 0, 0),
        (16, 128, 128): (16, 16, 16),
        (235, 128, 128): (235, 235, 235),
        (76, 85, 255): (255, 0, 0),
        (150, 44, 21): (0, 255, 0),
        (29, 255, 107): (0, 0, 255),
    },
    "-709": {
        (16, 128, 128): (0, 0, 0),
        (235, 128, 128): (255, 255, 255),
        (63, 102, 240): (255, 0, 0),
        (173, 42, 26): (0, 255, 0),
        (32, 240, 118): (0, 0, 255),
    },
    "-709-full": {
        (235, 128, 128): (235, 235, 235),
        (54, 99, 255): (255, 0, 0),
        (182, 30, 12): (0, 255, 0),
        (18, 255, 116): (0, 0, 255),
    },
}
"""Y'CbCr -> R'G'B' by hand: color bars of ITU-R BT.601 and BT.709, in limited and full range."""


def make_plain(layout: str, y: int, u: int, v: int) -> NDArray[np.uint8]:
    """Return 40x40 pixels of one color."""
    if layout == "yuyv":
        image = np.empty((40, 40, 2), np.uint8)
        image[..., 0], image[:, 0::2, 1], image[:, 1::2, 1] = y, u, v
    else:
        image = np.full((60, 40), y, np.uint8)
        image[40:, 0::2], image[40:, 1::2] = u, v
    return image


@pytest.mark.parametrize("encoding", KNOWN_COLORS)
@pytest.mark.parametrize("layout", ["yuyv", "nv12"])
def test_grey_and_primaries_of_a_camera(
    preprocessor: Preprocessor, layout: str, encoding: str
) -> None:
    """The reference and every backend convert known colors to their R'G'B' values."""
    for (y, u, v), rgb in KNOWN_COLORS[encoding].items():
        image = make_plain(layout, y, u, v)
        want = np.tile(np.c_[rgb].reshape(3, 1, 1), (16, 16))
        expected = reference.to_rgb(image, layout + encoding).transpose(2, 0, 1)[:, :16, :16]
        np.testing.assert_allclose(expected, want, atol=1.6)
        got = read_tensor(preprocessor.face(image, (5.0, 5.0, 30.0), 16, layout + encoding))[0]
        pixels = (
            got * np.array(SPEC.std)[:, None, None] + np.array(SPEC.mean)[:, None, None]
        ) * 255
        np.testing.assert_allclose(pixels, want, atol=1.6)


@pytest.mark.parametrize(
    ("image", "box", "size_px", "message"),
    [
        (FRAME, (0.0, 0.0, 50.0), 30, "face size 30 must be a multiple of 4"),
        (FRAME, (0.0, 0.0, 50.0), 516, "face size 516"),
        (FRAME, (0.0, 0.0, 50.0), 0, "face size 0"),
        (FRAME, (0.0, 0.0, 0.5), 64, "side in 1..1284"),
        (FRAME, (0.0, 0.0, 2000.0), 64, "side in 1..1284"),
        (FRAME, (float("nan"), 0.0, 50.0), 64, "must be finite"),
        (FRAME, (0.0, float("inf"), 50.0), 64, "must be finite"),
        (FRAME, (0.0, 0.0, float("nan")), 64, "must be finite"),
        (FRAME[..., 0], (0.0, 0.0, 50.0), 64, r"uint8\[height, width, 3\]"),
        (FRAME[..., [0, 1, 2, 2]], (0.0, 0.0, 50.0), 64, r"\[181, 321, 4\]"),
        (FRAME.astype(np.float32), (0.0, 0.0, 50.0), 64, "float32"),
        (FRAME[:, :0], (0.0, 0.0, 50.0), 64, r"\[181, 0, 3\]"),
    ],
)
def test_what_cannot_be_a_face_is_refused(
    preprocessor: Preprocessor, image: NDArray[Any], box: Box, size_px: int, message: str
) -> None:
    """Before any memory is written; the message names the value."""
    with pytest.raises(ValueError, match=message):
        preprocessor.face(image, box, size_px)


@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_no_face_is_left_in_memory(open_with: OpenWith, pixel_format: str) -> None:
    """Closing overwrites all images in host memory, in every format."""
    preprocessor = open_with(SPEC, MelSpec())
    view = make_image(40, 60, pixel_format, padding=3)
    preprocessor.face(view, (5.0, 5.0, 20.0), 16, pixel_format)
    held = list_host_arrays(preprocessor)
    assert any(array.any() for array in held)
    preprocessor.close()
    preprocessor.close()
    assert not any(array.any() for array in held)


def list_host_arrays(preprocessor: Any) -> list[NDArray[Any]]:
    """Return the host arrays in which a preprocessor stores image data."""
    if preprocessor.name == "cuda":
        return [] if preprocessor._staging is None else [preprocessor._staging.host]
    return [*preprocessor._outputs.values(), *preprocessor._scratch.values(), preprocessor._row]
