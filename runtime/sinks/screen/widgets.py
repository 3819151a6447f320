"""What a screen's picture is made of: texts, bars and a dot, each drawn anew only when it changes.

Pixels are 0x00RRGGBB in an array uint32 (height, width), which is B G R X in memory. All of it is
on a plain ground, so nothing has to be remembered of what was below.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .display import Pixels, Rect
from .glyphs import Coverage, Mask, Typeface

Align = Literal["left", "right"]


@cache
def blend(ground: int, colour: int) -> NDArray[np.uint32]:
    """The colour of each coverage 0..255: from the ground's to the ink's."""
    share = np.arange(256) / 255
    mixed = np.zeros(256, np.uint32)
    for shift in (16, 8, 0):
        a, b = (tone >> shift & 255 for tone in (ground, colour))
        mixed |= np.round(a + (b - a) * share).astype(np.uint32) << np.uint32(shift)
    return mixed


def draw_disc(diameter_px: int) -> Coverage:
    """A filled circle: each pixel's distance from its edge is how much of it is covered."""
    at = np.arange(diameter_px) - (diameter_px - 1) / 2
    inside = diameter_px / 2 - np.hypot(*np.meshgrid(at, at)) + 0.5
    return np.round(np.clip(inside, 0, 1) * 255).astype(np.uint8)


def bounding_rects(*rects: Rect) -> list[Rect]:
    """The smallest rectangle around all that are not empty; none when all are."""
    full = [rect for rect in rects if rect.x1 > rect.x0 and rect.y1 > rect.y0]
    if not full:
        return []
    x0, y0, x1, y1 = zip(*full, strict=True)
    return [Rect(min(x0), min(y0), max(x1), max(y1))]


def clip(rect: Rect, box: Rect) -> Rect:
    """The part of `rect` that is in `box`; an empty one in it where there is none."""
    x0, y0 = min(max(rect.x0, box.x0), box.x1), min(max(rect.y0, box.y0), box.y1)
    return Rect(x0, y0, max(x0, min(rect.x1, box.x1)), max(y0, min(rect.y1, box.y1)))


def full_rect(pixels: Pixels) -> Rect:
    return Rect(0, 0, pixels.shape[1], pixels.shape[0])


EMPTY = Rect(0, 0, 0, 0)


class TextMark:
    """One line of text in a box, in the middle of its height."""

    def __init__(
        self, pixels: Pixels, face: Typeface, box: Rect, ground: int, align: Align = "left"
    ) -> None:
        self._pixels = pixels
        self._face = face
        self._box = clip(box, full_rect(pixels))
        self._ground = ground
        self._align = align
        self._shown = "", 0
        self._extent = EMPTY

    def show(self, text: str, colour: int, face: Typeface | None = None) -> list[Rect]:
        """What was drawn. `face` replaces the usual one for this text."""
        if (text, colour) == self._shown:
            return []
        self._shown = text, colour
        before = self._extent
        mask, place = self._place(text, face or self._face)
        self._extent = clip(place, self._box)
        changed = bounding_rects(before, self._extent)
        for rect in bounding_rects(before):
            self._pixels[rect.y0 : rect.y1, rect.x0 : rect.x1] = self._ground
        for x0, y0, x1, y1 in bounding_rects(self._extent):
            ink = mask.coverage[y0 - place.y0 : y1 - place.y0, x0 - place.x0 : x1 - place.x0]
            self._pixels[y0:y1, x0:x1] = blend(self._ground, colour)[ink]
        return changed

    def _place(self, text: str, face: Typeface) -> tuple[Mask, Rect]:
        box = self._box
        text = face.shorten(text, box.x1 - box.x0)
        mask = face.mask(text)
        rows, columns = mask.coverage.shape
        x = box.x0 if self._align == "left" else box.x1 - round(mask.advance)
        # Ink begins at the margin, not the room that the letter keeps on its left.
        x += 0 if self._align == "left" else mask.left
        y = (box.y0 + box.y1 + face.cap_px) // 2 + mask.top
        return mask, Rect(x, y, x + columns, y + rows)


class BarMark:
    """A share as a bar on a track, both with round corners."""

    def __init__(self, pixels: Pixels, box: Rect, ground: int, track: int) -> None:
        self._ground, self._track = ground, track
        box = clip(box, full_rect(pixels))
        self._box = box
        self._area = pixels[box.y0 : box.y1, box.x0 : box.x1]
        self._thick, self._length = self._area.shape
        self._radius = max(1, self._thick // 4)
        corner = draw_disc(2 * self._radius)
        end = np.full((self._thick, 2 * self._radius), 255, np.uint8)
        end[: self._radius] = corner[: self._radius]
        end[-self._radius :] = corner[self._radius :]
        self._left, self._right = end[:, : self._radius], end[:, self._radius :]
        self._shown: tuple[int, int] | None = None
        self.show(0.0, track)

    def show(self, share: float, colour: int) -> list[Rect]:
        """What was drawn: the part that is longer or shorter than before, or all of another
        colour. The shortest bar is its corners."""
        length = round(share * self._length)
        if length:
            length = min(max(length, 2 * self._radius), self._length)
        if (length, colour) == self._shown or not self._area.size:
            return []
        before, self._shown = self._shown, (length, colour)
        self._draw(length, colour)
        x0, y0, _, y1 = self._box
        if before is None or (before[1] != colour and before[0] and length):
            return [self._box]
        low, high = sorted((before[0], length))
        return bounding_rects(Rect(x0 + max(0, low - self._radius), y0, x0 + high, y1))

    def _draw(self, length: int, colour: int) -> None:
        area, radius = self._area, self._radius
        if self._length < 2 * radius:
            area[:] = self._track
            return
        if length < self._length:
            area[:, radius:-radius] = self._track
            area[:, :radius] = blend(self._ground, self._track)[self._left]
            area[:, -radius:] = blend(self._ground, self._track)[self._right]
        if length:
            end = self._ground if length == self._length else self._track
            area[:, radius : length - radius] = colour
            area[:, :radius] = blend(self._ground, colour)[self._left]
            area[:, length - radius : length] = blend(end, colour)[self._right]


class DotMark:
    """A round light that is on or off."""

    def __init__(self, pixels: Pixels, box: Rect, ground: int, colour: int) -> None:
        self._pixels, self._box = pixels, clip(box, full_rect(pixels))
        disc = draw_disc(box.x1 - box.x0)
        self._lit = blend(ground, colour)[disc]
        self._ground = ground
        self._on = False

    def show(self, on: bool) -> list[Rect]:
        if on == self._on:
            return []
        self._on = on
        x0, y0, x1, y1 = self._box
        self._pixels[y0:y1, x0:x1] = self._lit[: y1 - y0, : x1 - x0] if on else self._ground
        return [self._box]
