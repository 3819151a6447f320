"""The picture for a public screen: scenes in, the pixels and what of them has changed out.

Quiet and legible from 3 m: one large word, seven bars, what they were read from, and always the
notice. Only the label that was read has a colour.

A camera's picture made small for the screen: any of our pixel formats in, 0x00RRGGBB out.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ....kernels.bgr_image import resize_to_bgr
from ....kernels.pixels import image_size
from ...messages import VideoFrame
from . import layout
from .display import Pixels, Rect
from .scene import MESSAGES, MODALITIES, Scene, capitalise
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
ACCENTS = {
    "angry": 0xEE6A5F,
    "disgust": 0x9BBF5B,
    "fear": 0xA68BE8,
    "happy": 0xF5C04E,
    "sad": 0x62A5E6,
    "surprise": 0xF0924F,
    "neutral": 0xB9C4D0,
}
"""The default bundle's labels; each has a contrast of 5:1 or more with the ground."""
OTHER_ACCENT = 0x4DB8A8
NUMBERS = DIGITS + " %-"


class ScreenView:
    """One size of screen. `pixels` (height, width) is 0x00RRGGBB; nothing else writes to it."""

    def __init__(
        self,
        width: int,
        height: int,
        notice: str,
        labels: Sequence[str] = tuple(ACCENTS),
        *,
        picture: bool = False,
    ) -> None:
        """Draws everything that never changes, and the scene before the first estimate.

        `picture`: leave room for the camera's.
        """
        self.size = width, height
        self.labels = tuple(labels)
        self.has_preview = picture
        self.pixels: Pixels = np.full((height, width), GROUND, np.uint32)
        unit = layout.find_unit(width, height)
        self._small = Typeface(
            max(MIN_SIZE_PX, round(layout.SMALL * unit)), characters="".join({*ASCII, *notice})
        )
        face, lines = layout.set_notice(notice, self._small, width, height)
        place = layout.lay_out(
            width, height, len(labels), len(lines), face.size_px, picture=picture
        )
        self.preview_box = clip(place.picture, full_rect(self.pixels))
        self._preview_extent = Rect(0, 0, 0, 0)
        self._make_faces(place)
        for box, line in zip(place.notice, lines, strict=True):
            self._text(face, box).show(line, DIM)
        self._fill(clip(place.rule, full_rect(self.pixels)), TRACK)
        self._text(self._small, place.caption).show("Read from", DIM)
        self._make_marks(place)
        self.draw(Scene())

    def draw(self, scene: Scene) -> list[Rect]:
        """Bring the pixels up to the scene; the rectangles that are not as they were."""
        accent = TEXT if scene.label is None else ACCENTS.get(scene.label, OTHER_ACCENT)
        message = self._message if scene.headline in MESSAGES else None
        colour = DIM if message else accent
        changed = self._headline.show(scene.headline, colour, message)
        changed += self._confidence.show(scene.confidence, TEXT)
        changed += self._dot.show(scene.camera_on)
        changed += self._camera.show("Camera on" if scene.camera_on else "", TEXT)
        changed += self._speed.show(scene.speed, AMBER if scene.late else DIM)
        changed += self._fault.show(capitalise(scene.fault), AMBER)
        for name, (label, bar, number) in self._rows.items():
            stands_out = name == scene.label
            changed += label.show(capitalise(name), TEXT if stands_out else DIM)
            changed += bar.show(scene.shares.get(name, 0.0), accent if stands_out else MUTED)
            changed += number.show(scene.percents.get(name, ""), TEXT if stands_out else DIM)
        return changed

    def show_preview(self, picture: NDArray[np.uint32] | None) -> list[Rect]:
        """The camera's picture (rows, columns), no larger than `preview_box`, is put into its lower
        right corner; None takes it away."""
        changed = []
        box, before = self.preview_box, self._preview_extent
        height, width = (0, 0) if picture is None else picture.shape
        extent = Rect(box.x1 - width, box.y1 - height, box.x1, box.y1)
        if before != extent and before.x1 > before.x0:
            self._fill(before, GROUND)
            changed.append(before)
        if picture is not None:
            assert extent.x0 >= box.x0
            assert extent.y0 >= box.y0
            self.pixels[extent.y0 : extent.y1, extent.x0 : extent.x1] = picture
            changed.append(extent)
        self._preview_extent = extent
        return changed

    def wipe(self) -> None:
        """Leave nothing in memory."""
        self.pixels.fill(0)

    def _make_faces(self, place: layout.Layout) -> None:
        def scale(size: float) -> int:
            return max(MIN_SIZE_PX, round(size * place.unit))

        def make_large(size: float, words: Sequence[str]) -> Typeface:
            width_px = place.headline.x1 - place.headline.x0
            return Typeface(fit_size(scale(size), words, width_px), words)

        names = [capitalise(name) for name in self.labels]
        self._large = make_large(layout.HEADLINE, names)
        self._message = make_large(layout.MESSAGE, MESSAGES)
        self._middle = Typeface(scale(layout.CONFIDENCE), characters=NUMBERS)
        modalities = [capitalise(name) for name in MODALITIES]
        size_px = scale(layout.NAMES)
        for row, words in ((place.bars[0], names), (place.weights[0], modalities)):
            height_px, width_px = row.name.y1 - row.name.y0, row.name.x1 - row.name.x0
            size_px = min(size_px, max(MIN_SIZE_PX, height_px * 7 // 10))
            size_px = fit_size(size_px, words, width_px)
        self._names = Typeface(size_px, [*names, *modalities], NUMBERS)

    def _make_marks(self, place: layout.Layout) -> None:
        self._headline = self._text(self._large, place.headline)
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
        self._rows = {
            name: (
                self._text(self._names, row.name),
                BarMark(self.pixels, row.bar, GROUND, TRACK),
                TextMark(self.pixels, self._names, row.number, GROUND, "right"),
            )
            for name, row in zip(
                (*self.labels, *MODALITIES), (*place.bars, *place.weights), strict=True
            )
        }

    def _text(self, face: Typeface, box: Rect) -> TextMark:
        return TextMark(self.pixels, face, box, GROUND)

    def _fill(self, rect: Rect, colour: int) -> None:
        self.pixels[rect.y0 : rect.y1, rect.x0 : rect.x1] = colour


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
