"""Parity of every preprocessor's face pass with the reference implementation, and its contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotion_edge.kernels import Box, Preprocessor, reference
from emotion_edge.kernels.crop import find_crop, place_box
from emotion_edge.kernels.pixels import LAYOUTS, PIXEL_FORMATS, find_format
from emotion_edge.kernels.spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec

from .tensors import read_tensor

TOLERANCE = 1e-4
SPEC = ImageSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.25, 0.3))  # the fixture's
OpenWith = Callable[[ImageSpec, MelSpec], Preprocessor]
ROLLS = (0.0, 0.03, 0.04, -0.5, 0.785398163, math.pi / 2, 2.5, -math.pi, 7.0)
"""Upright, within `MIN_ROLL_RAD`, just beyond, halfway, lying, upside down, more than a turn."""
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
    got = read_tensor(preprocessor.faces(image, [box], size_px, pixel_format))
    want = reference.face_tensor(image, box, size_px, SPEC, pixel_format)
    assert got.shape == (1, *want.shape)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size_px", range(MIN_FACE_PX, MAX_FACE_PX + 1, 4))
def test_every_size_equals_reference(quick_preprocessor: Preprocessor, size_px: int) -> None:
    """All sizes a bundle may have, enlarged and reduced, in both channel orders."""
    for box, pixel_format in (
        ((30.3, 20.7, 100.2, 0.0), "bgr8"),
        ((-7.0, -40.5, 330.0, 0.0), "rgb8"),
        ((30.3, 20.7, 100.2, -0.6), "rgb8"),
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
        (30.3, 20.7, 41.2, 0.0),
        (30.3, 20.7, 36.2, -0.6),
        (-7.5, -9.25, 60.0, 0.0),
        (-7.5, -9.25, 39.0, 0.4),
        (80.1, 50.2, 60.0, 0.0),
        (80.1, 50.2, 39.5, 3.0),
        (-200.0, 300.0, 64.0, 0.0),
        (-200.0, 300.0, 24.0, 0.7),
        (44.6, 33.3, 1.0, 0.0),
        (44.6, 33.3, 1.0, 1.0),
        (-3.0, -20.0, 130.0, 0.0),
        (-3.0, -20.0, 130.0, -0.3),
        (0.0, 0.0, 40.0, 0.0),  # a step of exactly 2.5
        (0.0, 0.0, 40.0, 0.5),
    ):
        assert_same(preprocessor, image, box, pixel_format=pixel_format)


@pytest.mark.parametrize("side", [208.0, 512.0])
def test_points_between_pixels_are_the_second_ones(preprocessor: Preprocessor, side: float) -> None:
    """Rounding must not matter: 208 / 36 is no binary fraction and 2.25 times it is 13, so a
    quarter point lies exactly between two pixels."""
    image = make_image(520, 520, "rgb8")
    for corner in (0.0, 5.0):
        for roll in (0.0, math.pi / 2, math.pi):
            assert_same(preprocessor, image, (corner, corner, side, roll), 36, "rgb8")


@settings(max_examples=150)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    x=st.floats(-300, 300),
    y=st.floats(-300, 300),
    share=st.floats(0, 1),
    roll=st.sampled_from(ROLLS),
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
    roll: float,
    size_px: int,
    pixel_format: str,
    padding: int,
    seed: int,
) -> None:
    """Images down to one pixel; boxes from one pixel to four images, partly or wholly outside. The
    border's pixel is repeated."""
    image = make_image(height, width, pixel_format, padding, seed)
    side = 1 + share * (4 * max(height, width) - 1)
    assert_same(quick_preprocessor, image, (x, y, side, roll), size_px, pixel_format)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 2.0, 2.4999, 2.5, 2.5001, 3.0, 5.0, 17.0])
def test_any_shrinking_equals_reference(quick_preprocessor: Preprocessor, factor: float) -> None:
    """Below, at and above the step from which two pixels are averaged."""
    for corner in (0.0, 0.25, 10.5, -3.75):  # quarters: where the quarter points meet pixel edges
        side = factor * 64
        for roll in (0.0, 0.3):
            assert_same(quick_preprocessor, FRAME, (corner, corner, side, roll), 64)


@pytest.mark.parametrize("x", [1e30, -1e30, 1e9, -1e9])
@pytest.mark.parametrize("side", [20.0, 300.0])
def test_box_far_outside_sees_the_border(preprocessor: Preprocessor, x: float, side: float) -> None:
    """No position overflows."""
    for roll in (0.0, 0.8):
        assert_same(preprocessor, FRAME, (x, -x, side, roll))


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
        for roll in (0.0, 0.6):
            assert_same(preprocessor, image, (5.5, 7.25, 70.0, roll))


def test_image_size_may_change(preprocessor: Preprocessor) -> None:
    """Wide, narrow, wide again, and the other channel order: no stale scratch memory."""
    for width, order in ((321, "bgr"), (40, "bgr"), (321, "bgr"), (321, "rgb"), (40, "rgb")):
        for roll in (0.0, 0.6):
            assert_same(preprocessor, FRAME[:, :width], (3.0, 4.0, 60.0, roll), 16, f"{order}8")


def test_channels_and_scaling_are_what_the_spec_says(open_with: OpenWith) -> None:
    """One color in, `(pixel / 255 - mean) / std` in the order R G B out, by hand."""
    spec = ImageSpec(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    red_green_blue = np.array([250, 100, 30], np.uint8)
    want = (red_green_blue / 255 - np.array(spec.mean)) / np.array(spec.std)
    preprocessor = open_with(spec, MelSpec())
    for pixel_format in ("bgr8", "rgb8"):
        image = np.empty((40, 50, 3), np.uint8)
        image[:] = red_green_blue[::-1] if pixel_format == "bgr8" else red_green_blue
        got = read_tensor(preprocessor.faces(image, [(5.0, 5.0, 30.0, 0.0)], 16, pixel_format))
        np.testing.assert_allclose(got[0], np.tile(want[:, None, None], (16, 16)), atol=1e-5)


def test_reference_is_bilinear() -> None:
    """On a gradient the pixels are at the expected positions, to 0.01 pixels; an image that is its
    own box is unchanged."""
    slope = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (100, 1, 3))
    plain = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    out = reference.face_tensor(slope, (20.0, 10.0, 48.0, 0.0), 32, plain)
    centres = 20.0 + (np.arange(32) + 0.5) * 48 / 32 - 0.5
    np.testing.assert_allclose(out[0, 7] * 255, centres, atol=0.01)
    same = reference.face_tensor(FRAME[:64, :64], (0.0, 0.0, 64.0, 0.0), 64, plain, "rgb8")
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


@pytest.mark.parametrize("roll", ROLLS)
def test_a_turned_picture_gives_the_upright_face(roll: float) -> None:
    """A smooth picture turned about a point, by the formula: the box turned as far about the same
    point shows what the upright box shows of the upright picture. Positive is clockwise."""

    def paint(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.stack([120 + 90 * np.sin(x / 9), 120 + 90 * np.cos(y / 7), x + y], axis=-1)

    plain = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    y, x = np.mgrid[0:120, 0:120].astype(float)
    right, down = (
        x - 59.5,
        y - 59.5,
    )  # of the box's centre, which lies at 60 where pixels have edges
    upright = paint(x, y).astype(np.uint8)
    cos, sin = math.cos(roll), math.sin(roll)
    turned = paint(59.5 + right * cos + down * sin, 59.5 + down * cos - right * sin)
    box = 60.0 - 20.0, 60.0 - 20.0, 40.0
    want = reference.face_tensor(upright, (*box, 0.0), 32, plain, "rgb8")
    got = reference.face_tensor(turned.astype(np.uint8), (*box, roll), 32, plain, "rgb8")
    # Within the dead band the outer pixels are off by up to its angle times half the side.
    np.testing.assert_allclose(
        got, want, atol=0.01 if abs(roll) >= reference.MIN_ROLL_RAD else 0.04
    )


def test_a_box_that_is_hardly_turned_is_upright(preprocessor: Preprocessor) -> None:
    """Its pixels are those of roll 0; a box beyond the dead band has others."""
    upright, hardly, turned = (
        read_tensor(preprocessor.faces(FRAME, [(20.0, 30.0, 60.0, roll)], 16))
        for roll in (0.0, -0.99 * reference.MIN_ROLL_RAD, 1.01 * reference.MIN_ROLL_RAD)
    )
    np.testing.assert_array_equal(hardly, upright)
    assert np.abs(turned - upright).max() > 0.1


@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_several_faces_of_one_image(preprocessor: Preprocessor, pixel_format: str) -> None:
    """Each in its place; whatever the size and place of those before it."""
    image = make_image(80, 90, pixel_format)
    boxes = [(5.0, 5.0, 60.0, 0.0), (30.0, 20.0, 40.0, 0.5), (0.0, 0.0, 80.0, 0.0)]
    boxes += [(-10.0, 40.0, 30.0, -1.0)]
    got = read_tensor(preprocessor.faces(image, boxes, 16, pixel_format))
    assert got.shape == (4, 3, 16, 16)
    for box, face in zip(boxes, got, strict=True):
        want = reference.face_tensor(image, box, 16, SPEC, pixel_format)
        np.testing.assert_allclose(face, want, rtol=0, atol=TOLERANCE)


def test_no_box_is_refused(preprocessor: Preprocessor) -> None:
    """A network has no input of no faces."""
    with pytest.raises(ValueError, match="no face box"):
        preprocessor.faces(FRAME, [], 16)


def test_output_is_reused_per_size(preprocessor: Preprocessor) -> None:
    """The next call of the same size overwrites the tensor; another size has its own."""
    first = preprocessor.faces(FRAME, [(0.0, 0.0, 50.0, 0.0)], 16)
    kept = read_tensor(first)
    assert preprocessor.faces(FRAME, [(0.0, 0.0, 50.0, 0.0)], 20) is not first
    preprocessor.faces(FRAME, [(9.0, 0.0, 50.0, 0.0), (0.0, 9.0, 50.0, 0.5)], 16)
    np.testing.assert_array_equal(read_tensor(first), kept)
    assert preprocessor.faces(FRAME, [(90.0, 90.0, 50.0, 0.0)], 16) is first
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
    crop = find_crop((origin, origin, side, 0.0), size_px, limit, limit)
    assert (crop.left, crop.right) == (crop.top, crop.bottom)
    assert crop.left == first.min() - first.min() % 2
    assert max(second.max(), first.max()) < crop.right <= min(second.max() + 2, limit)


@settings(max_examples=200)
@given(
    x=st.floats(-80, 80),
    y=st.floats(-80, 80),
    side=st.floats(1, 200),
    roll=st.floats(-7, 7),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    size_px=st.sampled_from([16, 36]),
)
@example(x=0.0, y=0.0, side=40.0, roll=math.pi / 2, height=40, width=40, size_px=16)
def test_crop_holds_every_tap_of_a_turned_box(
    x: float, y: float, side: float, roll: float, height: int, width: int, size_px: int
) -> None:
    """And no more than the chroma groups beside the outermost."""
    if abs(roll) < reference.MIN_ROLL_RAD:
        roll += 1.0
    rows, columns, _ = reference.turned_taps((x, y, side, roll), size_px, height, width)
    crop = find_crop((x, y, side, roll), size_px, height, width)
    for taps, low, high, limit in (
        (columns, crop.left, crop.right, width),
        (rows, crop.top, crop.bottom, height),
    ):
        assert max(0, taps.min() - 3) <= low <= taps.min()
        assert taps.max() < high <= min(taps.max() + 4, limit)


@settings(max_examples=100)
@given(
    x=st.floats(-300, 300),
    side=st.floats(1, 2_000),
    roll=st.sampled_from(ROLLS),
    size_px=st.just(512),
)
def test_fixed_point_places_are_the_reference_s(
    x: float, side: float, roll: float, size_px: int
) -> None:
    """To a thousandth of a pixel at the last output pixel, where errors have added up."""
    place = place_box((x, -x, side, roll), size_px)
    assert place.wide == (side / size_px >= reference.MAX_BILINEAR_STEP)
    turn = roll if abs(roll) >= reference.MIN_ROLL_RAD else 0.0
    cos, sin = math.cos(turn), math.sin(turn)
    reach = 0.5 * side - 0.5 * side / size_px
    last = size_px - 1
    got_x = (place.x + last * place.right - last * place.down) / 2**32
    got_y = (place.y + last * place.down + last * place.right) / 2**32
    shift = -0.5 if not place.wide else 0.0
    assert got_x == pytest.approx(x + side / 2 + shift + reach * (cos - sin), abs=1e-3)
    assert got_y == pytest.approx(-x + side / 2 + shift + reach * (cos + sin), abs=1e-3)


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
        got = read_tensor(
            preprocessor.faces(image, [(5.0, 5.0, 30.0, 0.0)], 16, layout + encoding)
        )[0]
        pixels = (
            got * np.array(SPEC.std)[:, None, None] + np.array(SPEC.mean)[:, None, None]
        ) * 255
        np.testing.assert_allclose(pixels, want, atol=1.6)


@pytest.mark.parametrize(
    ("image", "box", "size_px", "message"),
    [
        (FRAME, (0.0, 0.0, 50.0, 0.0), 30, "face size 30 must be a multiple of 4"),
        (FRAME, (0.0, 0.0, 50.0, 0.0), 516, "face size 516"),
        (FRAME, (0.0, 0.0, 50.0, 0.0), 0, "face size 0"),
        (FRAME, (0.0, 0.0, 0.5, 0.0), 64, "side in 1..1284"),
        (FRAME, (0.0, 0.0, 2000.0, 0.0), 64, "side in 1..1284"),
        (FRAME, (float("nan"), 0.0, 50.0, 0.0), 64, "must be finite"),
        (FRAME, (0.0, float("inf"), 50.0, 0.0), 64, "must be finite"),
        (FRAME, (0.0, 0.0, float("nan"), 0.0), 64, "must be finite"),
        (FRAME, (0.0, 0.0, 50.0, float("nan")), 64, "must be finite"),
        (FRAME, (0.0, 0.0, 50.0, float("inf")), 64, "must be finite"),
        (FRAME[..., 0], (0.0, 0.0, 50.0, 0.0), 64, r"uint8\[height, width, 3\]"),
        (FRAME[..., [0, 1, 2, 2]], (0.0, 0.0, 50.0, 0.0), 64, r"\[181, 321, 4\]"),
        (FRAME.astype(np.float32), (0.0, 0.0, 50.0, 0.0), 64, "float32"),
        (FRAME[:, :0], (0.0, 0.0, 50.0, 0.0), 64, r"\[181, 0, 3\]"),
    ],
)
def test_what_cannot_be_a_face_is_refused(
    preprocessor: Preprocessor, image: NDArray[Any], box: Box, size_px: int, message: str
) -> None:
    """Before any memory is written; the message names the value."""
    with pytest.raises(ValueError, match=message):
        preprocessor.faces(image, [box], size_px)


@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_no_face_is_left_in_memory(open_with: OpenWith, pixel_format: str) -> None:
    """Closing overwrites all images in host memory, in every format."""
    preprocessor = open_with(SPEC, MelSpec())
    view = make_image(40, 60, pixel_format, padding=3)
    for roll in (0.0, 0.5):
        preprocessor.faces(view, [(5.0, 5.0, 20.0, roll)], 16, pixel_format)
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
