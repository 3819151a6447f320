"""The view: correct in every size, and drawn only where it changes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.pixels import PIXEL_FORMATS, find_format
from emotion_edge.kernels.reference import to_rgb
from emotion_edge.runtime.messages import FaceEstimate, VideoFrame
from emotion_edge.runtime.sinks.screen.accents import ACCENTS, choose_accents
from emotion_edge.runtime.sinks.screen.display import Rect
from emotion_edge.runtime.sinks.screen.layout import (
    SMALL,
    Layout,
    find_unit,
    fit_notice,
    lay_out,
    measure_names,
)
from emotion_edge.runtime.sinks.screen.scene import MESSAGES, Scene
from emotion_edge.runtime.sinks.screen.view import (
    GROUND,
    MUTED,
    TRACK,
    ScreenView,
    scale_frame,
)
from emotion_edge.runtime.sinks.screen.widgets import ASCII, Typeface

from ..estimates import FUSED, LABELS, NOTICE

SIZES = ((1280, 720), (1920, 1080), (800, 480), (720, 1280), (480, 800), (1024, 768), (1920, 480))
TINY = ((64, 64), (64, 256), (320, 200))
OTHERS = (
    ("calm", "face"),
    ("yes", "no", "passive-aggressive resignation (x)"),
    tuple(f"disappointment {n}" for n in range(12)),
    tuple(f"state {n}" for n in range(31)),
    ("w" * 32, *(f"embarrassment {n}" for n in range(31))),
)
"""Labels of other bundles."""
HAPPY = Scene(
    headline="Happy",
    label="happy",
    confidence="81 %",
    shares=FUSED,
    percents={name: f"{share:.0%}" for name, share in FUSED.items()},
    weights={"face": 0.7, "voice": 0.3},
    weight_percents={"face": "70%", "voice": "30%"},
    speed="30 fps   12 ms",
    camera_on=True,
)


def random_scene(rng: random.Random) -> Scene:
    label = rng.choice([*LABELS, None])
    shares = {name: rng.choice([0.0, 0.001, rng.random(), 1.0]) for name in LABELS}
    return Scene(
        headline=label.capitalize() if label else rng.choice(MESSAGES),
        label=label,
        confidence=f"{rng.randrange(101)} %" if label else "",
        shares=shares,
        weights={"face": rng.random(), "voice": rng.random()},
        percents={name: f"{share:.0%}".replace("%", " %") for name, share in shares.items()},
        speed=rng.choice(["", "30 fps   12 ms", "7 fps   133 ms"]),
        late=rng.random() < 0.5,
        camera_on=rng.random() < 0.5,
        fault=rng.choice(["", "camera lost", "a long story of a device " * 20]),
    )


def covered(rects: Sequence[Rect], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for rect in rects:
        assert 0 <= rect.x0 < rect.x1 <= shape[1]
        assert 0 <= rect.y0 < rect.y1 <= shape[0]
        mask[rect.y0 : rect.y1, rect.x0 : rect.x1] = True
    return mask


@pytest.mark.parametrize("size", [*SIZES, *TINY])
def test_drawing_is_independent_of_the_scene_before(size: tuple[int, int]) -> None:
    """Every pixel that changes is in a returned rectangle, and the pixels equal those of a new view
    of the same scene."""
    rng = random.Random(str(size))
    view = ScreenView(*size, NOTICE)
    for _ in range(12 if size in SIZES[2:] else 5):
        scene = random_scene(rng)
        before = view.pixels.copy()
        rects = view.draw(scene)
        assert not (view.pixels != before)[~covered(rects, before.shape)].any()
        assert view.draw(scene) == []
        if size in SIZES:
            fresh = ScreenView(*size, NOTICE)
            fresh.draw(scene)
            np.testing.assert_array_equal(view.pixels, fresh.pixels)


def test_only_changes_are_drawn() -> None:
    """A new number draws that number; a longer bar draws its new end."""
    view = ScreenView(1280, 720, NOTICE)
    view.draw(HAPPY)
    (number,) = view.draw(replace(HAPPY, percents={**HAPPY.percents, "sad": "5%"}))
    assert number.x1 - number.x0 < 100
    assert number.y1 - number.y0 < 40
    shares = {**HAPPY.shares, "happy": 0.83}
    percents = {**HAPPY.percents, "sad": "5%"}
    (end,) = view.draw(replace(HAPPY, percents=percents, shares=shares))
    assert end.x1 - end.x0 < 20
    assert end.y1 - end.y0 == 16


def test_invisible_change_is_not_drawn() -> None:
    """A tenth of a pixel."""
    view = ScreenView(1280, 720, NOTICE)
    view.draw(HAPPY)
    shares = {name: share + 1e-4 for name, share in HAPPY.shares.items()}
    assert view.draw(replace(HAPPY, shares=shares)) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_preview", [False, True])
@pytest.mark.parametrize("labels", [LABELS, *OTHERS], ids=len)
def test_nothing_overlaps(
    size: tuple[int, int], with_preview: bool, labels: tuple[str, ...]
) -> None:
    """No part of the layout overlaps another one or the border, in any common size."""
    place = arrange(size, NOTICE, with_preview, labels)
    assert len(place.bars) == len(labels)
    rects = list_rects(place)
    covered(rects, size[::-1])
    for a, b in itertools.combinations(rects, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, (a, b)


def arrange(
    size: tuple[int, int], notice: str, with_preview: bool, labels: tuple[str, ...] = LABELS
) -> Layout:
    face, lines = fit_notice(notice, small_face(size), *size)
    names_px = measure_names(labels)
    return lay_out(*size, len(labels), names_px, len(lines), face.size_px, preview=with_preview)


def small_face(size: tuple[int, int]) -> Typeface:
    return Typeface(round(SMALL * find_unit(*size)), characters=ASCII)


def list_rects(place: Layout) -> list[Rect]:
    rows = [
        rect for row in (*place.bars, *place.weights) for rect in (row.name, row.bar, row.number)
    ]
    single = [place.camera, place.speed, place.headline, place.confidence, place.caption]
    boxes = [*single, place.fault, place.rule, *place.notice, *rows]
    return boxes + ([place.preview] if place.preview.x1 > place.preview.x0 else [])


@pytest.mark.parametrize("size", SIZES)
def test_legible_from_3_m(size: tuple[int, int]) -> None:
    """On 1280 x 720 the headline has capitals of 89 px, names have 20 px: where the diagonal is 24
    inches (0.415 mm a pixel) these are 37 mm and 8.3 mm high."""
    unit = find_unit(*size)
    view = ScreenView(*size, NOTICE)
    view.draw(HAPPY)
    headline = np.flatnonzero((view.pixels == ACCENTS["happy"]).sum(axis=1) > 3 * unit)
    assert headline[-1] - headline[0] > 89 * unit
    x0, y0, x1, y1 = arrange(size, NOTICE, False).bars[3].name
    name = np.flatnonzero((view.pixels[y0:y1, x0:x1] != GROUND).any(axis=1))
    assert name[-1] - name[0] > 24 * unit  # with the descenders


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (800, 480)])
def test_long_notice_wraps(size: tuple[int, int]) -> None:
    """All of it is shown in a smaller font, and the rest moves."""
    notice = "This installation estimates the apparent emotion of people in front of it. " * 6
    _, lines = fit_notice(notice, small_face(size), *size)
    assert " ".join(lines) == notice.strip()
    assert len(lines) > 3
    covered([*list_rects(arrange(size, notice, False))], size[::-1])
    view = ScreenView(*size, notice)
    view.draw(HAPPY)


@pytest.mark.parametrize(
    "notice", ["", "x" * 5000, "word " * 5000, "Ünïcode ß 日本語\n\ttabs\r\nlines"]
)
def test_odd_notices(notice: str) -> None:
    """Empty, too long for any screen, one endless word, characters that the font lacks."""
    view = ScreenView(800, 480, notice)
    view.draw(HAPPY)


def test_notice_is_always_shown() -> None:
    """No scene changes the rows at the bottom, which are not empty."""
    view = ScreenView(1280, 720, NOTICE)
    notice = view.pixels[640:].copy()
    assert (notice != GROUND).sum() > 2000
    rng = random.Random(1)
    for _ in range(10):
        view.draw(random_scene(rng))
        np.testing.assert_array_equal(view.pixels[640:], notice)


def test_camera_mark() -> None:
    """A green dot and a text while the camera is on, nothing while it is off."""
    view = ScreenView(1280, 720, NOTICE)
    off = view.pixels.copy()
    rects = view.draw(Scene(camera_on=True))
    assert all(rect.y1 < 90 and rect.x1 < 420 for rect in rects)
    assert (view.pixels != off).sum() > 500
    view.draw(Scene())
    np.testing.assert_array_equal(view.pixels, off)


def test_only_one_label_has_a_color() -> None:
    """All else is grey, except the mark of the camera."""
    view = ScreenView(1280, 720, NOTICE)
    view.draw(replace(HAPPY, camera_on=False))
    for label, accent in ACCENTS.items():
        assert (view.pixels == accent).any() == (label == "happy")


def test_accents_have_contrast() -> None:
    """Each has more contrast to the ground than text needs (WCAG 2.1: 4.5)."""

    def luminance(color: int) -> float:
        tones = [(color >> shift & 255) / 255 for shift in (16, 8, 0)]
        linear = [t / 12.92 if t <= 0.04045 else ((t + 0.055) / 1.055) ** 2.4 for t in tones]
        return sum(weight * t for weight, t in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    colors = choose_accents(OTHERS[-1])
    assert len(set(colors.values())) == len(OTHERS[-1])
    assert choose_accents(LABELS) == ACCENTS
    assert choose_accents(["calm", "Happy"])["Happy"] == ACCENTS["happy"]
    for accent in (*ACCENTS.values(), *colors.values(), *choose_accents(["a", "b"]).values()):
        assert (luminance(accent) + 0.05) / (luminance(GROUND) + 0.05) > 5


@pytest.mark.parametrize("labels", OTHERS, ids=len)
@pytest.mark.parametrize("size", [(1280, 720), (720, 1280)])
def test_other_labels(labels: tuple[str, ...], size: tuple[int, int]) -> None:
    """Few, many and long names: names are at least 9 px high, the headline 11 (a row of w), and
    each has a bar that shows its share; a label called as a modality has its own."""
    view = ScreenView(*size, NOTICE, labels)
    place = arrange(size, NOTICE, False, labels)
    for label, row in zip(labels, place.bars, strict=True):
        view.draw(Scene())
        x0, y0, x1, y1 = row.bar
        assert not (view.pixels[y0:y1, x0:x1] == view.accents[label]).any()
        covered(view.draw(Scene(label, label, shares={label: 1.0})), view.pixels.shape)
        assert (view.pixels[y0:y1, x0:x1] == view.accents[label]).mean() > 0.8
        x0, y0, x1, y1 = row.name
        ink = np.flatnonzero((view.pixels[y0:y1, x0:x1] != GROUND).any(axis=1))
        assert ink[-1] - ink[0] >= 9
    headline = place.headline
    view.draw(Scene(labels[0], labels[0]))
    rows = slice(headline.y0, headline.y1)
    inked = (view.pixels[rows, headline.x0 : headline.x1] == view.accents[labels[0]]).any(axis=1)
    assert inked.sum() >= 11


def test_bar_ends() -> None:
    """A full bar covers its track, and its corners are round."""
    view = ScreenView(1280, 720, NOTICE)
    view.draw(replace(HAPPY, shares={**HAPPY.shares, "happy": 1.0}))
    rows = np.flatnonzero((view.pixels == ACCENTS["happy"]).sum(axis=1) > 300)
    assert len(rows) >= 12
    assert not (view.pixels[rows] == TRACK).any()
    assert len(set((view.pixels[rows] == ACCENTS["happy"]).sum(axis=1))) > 1


def test_preview() -> None:
    """It is in the lower right corner of its box, and leaves no pixel behind."""
    view = ScreenView(1280, 720, NOTICE, preview=True)
    box = view.preview_box
    empty = view.pixels.copy()
    large = np.full((box.y1 - box.y0, box.x1 - box.x0), 0x808080, np.uint32)
    assert view.show_preview(large) == [box]
    small = large[:40, :60]
    rects = view.show_preview(small)
    assert rects == [box, Rect(box.x1 - 60, box.y1 - 40, box.x1, box.y1)]
    assert (view.pixels != empty).sum() == 2400
    assert view.show_preview(None)
    np.testing.assert_array_equal(view.pixels, empty)
    assert view.show_preview(None) == []


def test_wipe() -> None:
    """Every pixel in memory is 0."""
    view = ScreenView(640, 480, NOTICE)
    view.wipe()
    assert not view.pixels.any()


# The preview

SHAPES = {"bgr8": (48, 64, 3), "rgb8": (48, 64, 3), "yuyv": (48, 64, 2), "nv12": (72, 64)}


def make_image(pixel_format: str) -> NDArray[np.uint8]:
    """Return an image whose halves have different colors in every format."""
    image = np.full(SHAPES[find_format(pixel_format).layout], 90, np.uint8)
    image[:, 32:] = 160
    return image


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_preview_of_every_format(pixel_format: str) -> None:
    """The colors are those of the reference implementation; the image is mirrored."""
    image = make_image(pixel_format)
    small = scale_frame(VideoFrame(0, 0, image, pixel_format), 32, 24)
    assert small.shape == (24, 32)
    assert small.dtype == np.uint32
    wanted = to_rgb(image, pixel_format)
    for x, from_x in ((2, 60), (30, 3)):
        rgb = [int(small[12, x]) >> shift & 255 for shift in (16, 8, 0)]
        assert np.abs(np.array(rgb) - wanted[24, from_x]).max() < 3


def test_faces_in_the_preview() -> None:
    """A square around each, mirrored with the image, in the color of its label; the image of the
    camera is not drawn on, and a face outside it does no harm."""
    image = np.full((100, 200, 3), 10, np.uint8)
    anna = FaceEstimate("anna", (20.0, 10.0, 40.0), 0.9, "happy", 0.8, {})
    ben = FaceEstimate("ben", (120.0, 20.0, 60.0), 0.9, None, 0.0, {})
    away = FaceEstimate("away", (-500.0, 900.0, 60.0), 0.9, "sad", 0.0, {})
    for width in (200, 100):
        small = scale_frame(VideoFrame(0, 0, image), width, 100, (anna, ben, away))
        scale = width / 200
        colors = {int(color) for color in np.unique(small)}
        assert colors == {0x0A0A0A, ACCENTS["happy"], MUTED}
        rows, columns = np.nonzero(small == ACCENTS["happy"])
        left = width - 1 - columns.max()
        assert (left, rows.min()) == pytest.approx((20 * scale, 10 * scale), abs=2)
        assert columns.max() - columns.min() == pytest.approx(40 * scale, abs=3)
    assert (image == 10).all()


@pytest.mark.parametrize(
    ("room", "size"), [((32, 100), (24, 32)), ((100, 12), (12, 16)), ((1, 1), (1, 1))]
)
def test_preview_keeps_its_aspect_ratio(room: tuple[int, int], size: tuple[int, int]) -> None:
    """It is as large as fits into the box."""
    frame = VideoFrame(0, 0, make_image("bgr8"))
    assert scale_frame(frame, *room).shape == size


def test_padding_is_not_shown() -> None:
    """A driver's rows may be longer than the image."""
    memory = np.zeros((48, 100, 3), np.uint8)
    memory[:, :64] = 200
    small = scale_frame(VideoFrame(0, 0, memory[:, :64]), 64, 48)
    assert (small == 0xC8C8C8).all()


def test_invalid_image_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        scale_frame(VideoFrame(0, 0, np.zeros((4, 4), np.uint8), "bgr8"), 10, 10)
