"""The view for a public screen: scenes in, pixels and the rectangles that changed out.

It is quiet, and legible from 3 m: one large word, a bar for each label (in two columns where there
are many), the weights of face and voice, and always the notice. Only the estimated label has a
color. A preview is a camera's frame of any pixel format, scaled down and mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ....kernels.bgr_image import resize_to_bgr
from ....kernels.pixels import image_size
from ...messages import FaceEstimate, VideoFrame
from . import layout
from .accents import ACCENTS, choose_accents
from .display import Pixels, Rect
from .scene import DEMO, MESSAGES, MODALITIES, Scene, capitalise
from .widgets import (
    ASCII,
    DIGITS,
    MIN_SIZE_PX,
    BarMark,
    DotMark,
    TextMark,
    Typeface,
    clip,
    fit_size,
    full_rect,
)

GROUND, TRACK, MUTED = 0x0D1117, 0x1C232D, 0x5C6979
TEXT, DIM = 0xF0F3F6, 0x9BA7B4
AMBER, GREEN = 0xF2B84B, 0x3CCB7F
NUMBERS = DIGITS + " %-"


_RowMarks = tuple[TextMark, BarMark, TextMark]
"""Name, bar and number."""


class ScreenView:
    """The view in one size. `pixels` (height, width) is 0x00RRGGBB, written only by the view."""

    def __init__(
        self,
        width: int,
        height: int,
        notice: str,
        labels: Sequence[str] = tuple(ACCENTS),
        *,
        preview: bool = False,
    ) -> None:
        """Draw the constant parts, and the scene before the first estimate.

        `preview`: reserve room for the camera's frames.
        """
        self.size = width, height
        self.labels = tuple(labels)
        self.accents = choose_accents(labels)
        self.has_preview = preview
        self.pixels: Pixels = np.full((height, width), GROUND, np.uint32)
        unit = layout.find_unit(width, height)
        self._small = Typeface(
            max(MIN_SIZE_PX, round(layout.SMALL * unit)), characters="".join({*ASCII, *notice})
        )
        face, lines = layout.fit_notice(notice, self._small, width, height)
        names_px = layout.measure_names([capitalise(name) for name in labels])
        place = layout.lay_out(
            width, height, len(labels), names_px, len(lines), face.size_px, preview=preview
        )
        self.preview_box = clip(place.preview, full_rect(self.pixels))
        self._preview_extent = Rect(0, 0, 0, 0)
        self._make_typefaces(place)
        for box, line in zip(place.notice, lines, strict=True):
            self._text(face, box).show(line, DIM)
        self._fill(clip(place.rule, full_rect(self.pixels)), TRACK)
        self._text(self._small, place.caption).show("Read from", DIM)
        self._make_marks(place)
        self.draw(Scene())

    def draw(self, scene: Scene) -> list[Rect]:
        """Draw the scene. Return the rectangles that changed."""
        accent = TEXT if scene.label is None else self.accents.get(scene.label, TEXT)
        color = DIM if scene.label is None else accent
        face = self._message if scene.label is None else self._large.get(scene.label)
        changed = self._headline.show(scene.headline, color, face)
        changed += self._confidence.show(scene.confidence, TEXT)
        changed += self._dot.show(scene.camera_on)
        reads = "Camera and microphone on" if scene.listening else "Camera on"
        changed += self._camera.show(reads if scene.camera_on else "", TEXT)
        changed += self._speed.show(scene.speed, AMBER if scene.late else DIM)
        changed += self._fault.show(capitalise(scene.fault), AMBER)
        for name, row in zip(self.labels, self._rows, strict=True):
            share, percent = scene.shares.get(name, 0.0), scene.percents.get(name, "")
            changed += self._draw_row(row, name, share, percent, name == scene.label, accent)
        for name, row in zip(MODALITIES, self._weight_rows, strict=True):
            weight, percent = scene.weights.get(name, 0.0), scene.weight_percents.get(name, "")
            changed += self._draw_row(row, name, weight, percent, False, accent)
        return changed

    def _draw_row(
        self, row: _RowMarks, name: str, share: float, percent: str, bright: bool, accent: int
    ) -> list[Rect]:
        label, bar, number = row
        color = TEXT if bright else DIM
        changed = label.show(capitalise(name), color)
        changed += bar.show(share, accent if bright else MUTED)
        return changed + number.show(percent, color)

    def show_preview(self, image: NDArray[np.uint32] | None) -> list[Rect]:
        """Draw `image` (rows, columns) into the lower right corner of `preview_box`, which it fits;
        None removes it. Return the rectangles that changed."""
        changed = []
        box, before = self.preview_box, self._preview_extent
        height, width = (0, 0) if image is None else image.shape
        extent = Rect(box.x1 - width, box.y1 - height, box.x1, box.y1)
        if before != extent and before.x1 > before.x0:
            self._fill(before, GROUND)
            changed.append(before)
        if image is not None:
            assert extent.x0 >= box.x0
            assert extent.y0 >= box.y0
            self.pixels[extent.y0 : extent.y1, extent.x0 : extent.x1] = image
            changed.append(extent)
        self._preview_extent = extent
        return changed

    def wipe(self) -> None:
        """Clear the pixels in memory."""
        self.pixels.fill(0)

    def _make_typefaces(self, place: layout.Layout) -> None:
        def scale(size: float) -> int:
            return max(MIN_SIZE_PX, round(size * place.unit))

        width_px = place.headline.x1 - place.headline.x0

        def fit(size: float, words: Sequence[str]) -> int:
            return fit_size(scale(size), words, width_px)

        names = [capitalise(name) for name in self.labels]
        # Of one size, unless a long name would make all others small.
        common_px = max(fit(layout.HEADLINE, names), scale(layout.MIN_HEADLINE))
        sizes = {
            name: min(common_px, max(scale(layout.SMALL), fit(layout.HEADLINE, [word])))
            for name, word in zip(self.labels, names, strict=True)
        }
        faces = {
            size: Typeface(size, [capitalise(n) for n in sizes if sizes[n] == size])
            for size in set(sizes.values())
        }
        self._large = {name: faces[size] for name, size in sizes.items()}
        self._message = Typeface(fit(layout.MESSAGE, MESSAGES), MESSAGES)
        self._middle = Typeface(scale(layout.CONFIDENCE), characters=NUMBERS + DEMO)
        modalities = [capitalise(name) for name in MODALITIES]
        size_px = scale(layout.NAMES)
        for row, words in ((place.bars[0], names), (place.weights[0], modalities)):
            height_px, width_px = row.name.y1 - row.name.y0, row.name.x1 - row.name.x0
            size_px = min(size_px, max(MIN_SIZE_PX, height_px * 7 // 10))
            # A longer name is shortened.
            least_px = min(size_px, max(MIN_SIZE_PX, scale(layout.MIN_NAMES)))
            size_px = max(least_px, fit_size(size_px, words, width_px))
        self._names = Typeface(size_px, [*names, *modalities], NUMBERS)

    def _make_marks(self, place: layout.Layout) -> None:
        self._headline = self._text(self._message, place.headline)
        self._confidence = self._text(self._middle, place.confidence)
        dot = max(4, round(16 * place.unit))
        x0, y0, x1, y1 = place.camera
        dot_y = (y0 + y1 - dot) // 2
        box = Rect(x0, dot_y, x0 + dot, dot_y + dot)
        self._dot = DotMark(self.pixels, box, GROUND, GREEN)
        after = x0 + dot + round(12 * place.unit)
        self._camera = self._text(self._small, Rect(after, y0, x1, y1))
        self._speed = TextMark(self.pixels, self._small, place.speed, GROUND, "right")
        self._fault = self._text(self._small, place.fault)
        self._rows, self._weight_rows = (
            [
                (
                    self._text(self._names, row.name),
                    BarMark(self.pixels, row.bar, GROUND, TRACK),
                    TextMark(self.pixels, self._names, row.number, GROUND, "right"),
                )
                for row in rows
            ]
            for rows in (place.bars, place.weights)
        )

    def _text(self, face: Typeface, box: Rect) -> TextMark:
        return TextMark(self.pixels, face, box, GROUND)

    def _fill(self, rect: Rect, color: int) -> None:
        self.pixels[rect.y0 : rect.y1, rect.x0 : rect.x1] = color


def scale_frame(
    frame: VideoFrame,
    width: int,
    height: int,
    faces: Sequence[FaceEstimate] = (),
    accents: Mapping[str, int] = ACCENTS,
) -> NDArray[np.uint32]:
    """Return the frame mirrored, as large as fits into width x height: uint32 (rows, columns).

    A square in the color of its label is drawn around each of the `faces`; the main one, which is
    the first, has a thicker one. Raises ValueError for an image of a wrong shape or type.
    """
    rows, columns = image_size(frame.image, frame.format)
    scale = min(width / columns, height / rows)
    size = max(1, int(columns * scale)), max(1, int(rows * scale))
    small = resize_to_bgr(frame.image, frame.format, *size, cv2.INTER_AREA)
    for number, face in reversed(list(enumerate(faces))):
        x, y, side = (round(length * scale) for length in face.box)
        accent = MUTED if face.label is None else accents.get(face.label, TEXT)
        color = accent & 0xFF, accent >> 8 & 0xFF, accent >> 16
        cv2.rectangle(small, (x, y), (x + side, y + side), color, 2 if number == 0 else 1)
    bgrx = cv2.cvtColor(cv2.flip(small, 1), cv2.COLOR_BGR2BGRA)
    return bgrx.view(np.uint32)[..., 0] & np.uint32(0xFFFFFF)
