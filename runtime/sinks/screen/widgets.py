"""The widgets of the view: text, bars and a dot, each redrawn only when it changes.

Pixels are 0x00RRGGBB in an array uint32 (height, width), which is B G R X in memory. The ground is
one color, so no widget has to restore what was below it.

A typeface renders its words and characters with Pillow when it is made. Drawing a text then only
copies arrays: its coverage, 0..255, and the position relative to the pen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .display import Pixels, Rect

ASCII = "".join(map(chr, range(32, 127)))
DIGITS = "0123456789"
MIN_SIZE_PX = 8

Coverage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mask:
    """The ink of a text. The pen is on the baseline at the start of the text."""

    coverage: Coverage
    """(height, width)"""
    left: int
    """From the pen to the first column."""
    top: int
    """From the pen to the first row: negative above the baseline."""
    advance: float
    """From the pen to its position after the text."""


def check_pillow() -> None:
    """Raise ValueError without a Pillow that has a font of its own (10.1)."""
    try:
        from PIL import ImageFont

        ImageFont.load_default(10)
    except (ImportError, TypeError) as error:
        raise ValueError(
            "the screen needs Pillow 10.1 or newer: pip install 'emotion-edge[screen]'"
        ) from error


def measure_widest(size_px: int, words: Iterable[str]) -> float:
    """Return the width of the widest word."""
    from PIL import ImageFont

    font = ImageFont.load_default(size_px)
    return float(max(font.getlength(word) for word in words))


def fit_size(size_px: int, words: Iterable[str], width_px: int) -> int:
    """Return `size_px`, or the largest smaller size at which every word fits into `width_px`."""
    widest_px = measure_widest(size_px, words)
    return max(MIN_SIZE_PX, int(size_px * min(1.0, width_px / widest_px)))


class Typeface:
    """One size of Pillow's font (Aileron, whose digits have equal widths)."""

    def __init__(self, size_px: int, words: Iterable[str] = (), characters: str = "") -> None:
        """Render `words` whole; other text is composed of `characters`."""
        from PIL import Image, ImageDraw, ImageFont

        font = ImageFont.load_default(size_px)
        margin = 2 * size_px

        def draw(text: str) -> Mask:
            advance = font.getlength(text)
            image = Image.new("L", (2 * margin + round(advance), 2 * margin))
            ImageDraw.Draw(image).text((margin, margin), text, fill=255, font=font, anchor="ls")
            left, top, right, bottom = image.getbbox() or (margin, margin, margin, margin)
            ink = np.asarray(image)[top:bottom, left:right].copy()
            return Mask(ink, left - margin, top - margin, advance)

        self.size_px = size_px
        self.cap_px = draw("H").coverage.shape[0]
        """Height of a capital letter."""
        self._words = {word: draw(word) for word in words}
        # Those of the words too, since a long word is shortened.
        single = {*characters, *"".join(self._words), "?", "."}
        self._characters = {c: draw(c) for c in single if c.isprintable()}

    def measure(self, text: str) -> float:
        """Return the width in pixels."""
        if text in self._words:
            return self._words[text].advance
        return sum(self._character(c).advance for c in text)

    def mask(self, text: str) -> Mask:
        """Return the ink of a text."""
        if text in self._words:
            return self._words[text]
        placed = []
        pen = 0.0
        for character in text:
            mask = self._character(character)
            placed.append((mask, round(pen) + mask.left))
            pen += mask.advance
        inked = [(mask, x) for mask, x in placed if mask.coverage.size]
        if not inked:
            return Mask(np.zeros((0, 0), np.uint8), 0, 0, pen)
        left = min(x for _, x in inked)
        top = min(mask.top for mask, _ in inked)
        right = max(x + mask.coverage.shape[1] for mask, x in inked)
        bottom = max(mask.top + mask.coverage.shape[0] for mask, _ in inked)
        coverage = np.zeros((bottom - top, right - left), np.uint8)
        for mask, x in inked:
            rows, columns = mask.coverage.shape
            part = coverage[mask.top - top : mask.top - top + rows, x - left : x - left + columns]
            np.maximum(part, mask.coverage, out=part)
        return Mask(coverage, left, top, pen)

    def shorten(self, text: str, width_px: int) -> str:
        """Return `text`, or its beginning and "..." if it is wider than `width_px`."""
        if self.measure(text) <= width_px:
            return text
        room_px = width_px - self.measure("...")
        ends = accumulate(self._character(c).advance for c in text)
        return text[: sum(1 for _ in takewhile(lambda end: end <= room_px, ends))].rstrip() + "..."

    def wrap(self, text: str, width_px: int, max_lines: int) -> list[str]:
        """Break the text into lines of at most `width_px`; the last line is shortened."""
        lines: list[str] = []
        words = text.split()
        while words and len(lines) < max_lines - 1:
            count = 1
            while count < len(words) and self.measure(" ".join(words[: count + 1])) <= width_px:
                count += 1
            lines.append(self.shorten(" ".join(words[:count]), width_px))
            del words[:count]
        if words:
            lines.append(self.shorten(" ".join(words), width_px))
        return lines

    def _character(self, character: str) -> Mask:
        return self._characters.get(character, self._characters["?"])


Align = Literal["left", "right"]


@cache
def blend(ground: int, color: int) -> NDArray[np.uint32]:
    """Return the color of each coverage 0..255, from the ground to the ink."""
    share = np.arange(256) / 255
    mixed = np.zeros(256, np.uint32)
    for shift in (16, 8, 0):
        a, b = (tone >> shift & 255 for tone in (ground, color))
        mixed |= np.round(a + (b - a) * share).astype(np.uint32) << np.uint32(shift)
    return mixed


def draw_disc(diameter_px: int) -> Coverage:
    """Return the coverage of a filled circle, from each pixel's distance to its edge."""
    at = np.arange(diameter_px) - (diameter_px - 1) / 2
    inside = diameter_px / 2 - np.hypot(*np.meshgrid(at, at)) + 0.5
    return np.round(np.clip(inside, 0, 1) * 255).astype(np.uint8)


def bounding_rects(*rects: Rect) -> list[Rect]:
    """Return the smallest rectangle around all non-empty ones; none if all are empty."""
    full = [rect for rect in rects if rect.x1 > rect.x0 and rect.y1 > rect.y0]
    if not full:
        return []
    x0, y0, x1, y1 = zip(*full, strict=True)
    return [Rect(min(x0), min(y0), max(x1), max(y1))]


def clip(rect: Rect, box: Rect) -> Rect:
    """Return the part of `rect` inside `box`, which may be empty."""
    x0, y0 = min(max(rect.x0, box.x0), box.x1), min(max(rect.y0, box.y0), box.y1)
    return Rect(x0, y0, max(x0, min(rect.x1, box.x1)), max(y0, min(rect.y1, box.y1)))


def full_rect(pixels: Pixels) -> Rect:
    return Rect(0, 0, pixels.shape[1], pixels.shape[0])


EMPTY = Rect(0, 0, 0, 0)


class TextMark:
    """One line of text in a box, centred vertically."""

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

    def show(self, text: str, color: int, face: Typeface | None = None) -> list[Rect]:
        """Draw the text. Return the changed rectangles. `face` replaces the typeface once."""
        if (text, color) == self._shown:
            return []
        self._shown = text, color
        before = self._extent
        mask, place = self._place(text, face or self._face)
        self._extent = clip(place, self._box)
        changed = bounding_rects(before, self._extent)
        for rect in bounding_rects(before):
            self._pixels[rect.y0 : rect.y1, rect.x0 : rect.x1] = self._ground
        for x0, y0, x1, y1 in bounding_rects(self._extent):
            ink = mask.coverage[y0 - place.y0 : y1 - place.y0, x0 - place.x0 : x1 - place.x0]
            self._pixels[y0:y1, x0:x1] = blend(self._ground, color)[ink]
        return changed

    def _place(self, text: str, face: Typeface) -> tuple[Mask, Rect]:
        box = self._box
        text = face.shorten(text, box.x1 - box.x0)
        mask = face.mask(text)
        rows, columns = mask.coverage.shape
        x = box.x0 if self._align == "left" else box.x1 - round(mask.advance)
        # The ink begins at the margin, without the letter's left bearing.
        x += 0 if self._align == "left" else mask.left
        y = (box.y0 + box.y1 + face.cap_px) // 2 + mask.top
        return mask, Rect(x, y, x + columns, y + rows)


class BarMark:
    """A bar of a length of 0..1 on a track, both with round corners."""

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

    def show(self, share: float, color: int) -> list[Rect]:
        """Draw the bar. Return the changed rectangles: the part that grew or shrank, or all of a
        new color. The shortest bar is its corners."""
        length = round(share * self._length)
        if length:
            length = min(max(length, 2 * self._radius), self._length)
        if (length, color) == self._shown or not self._area.size:
            return []
        before, self._shown = self._shown, (length, color)
        self._draw(length, color)
        x0, y0, _, y1 = self._box
        if before is None or (before[1] != color and before[0] and length):
            return [self._box]
        low, high = sorted((before[0], length))
        return bounding_rects(Rect(x0 + max(0, low - self._radius), y0, x0 + high, y1))

    def _draw(self, length: int, color: int) -> None:
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
            area[:, radius : length - radius] = color
            area[:, :radius] = blend(self._ground, color)[self._left]
            area[:, length - radius : length] = blend(end, color)[self._right]


class DotMark:
    """A dot that is on or off."""

    def __init__(self, pixels: Pixels, box: Rect, ground: int, color: int) -> None:
        self._pixels, self._box = pixels, clip(box, full_rect(pixels))
        disc = draw_disc(box.x1 - box.x0)
        self._lit = blend(ground, color)[disc]
        self._ground = ground
        self._on = False

    def show(self, on: bool) -> list[Rect]:
        if on == self._on:
            return []
        self._on = on
        x0, y0, x1, y1 = self._box
        self._pixels[y0:y1, x0:x1] = self._lit[: y1 - y0, : x1 - x0] if on else self._ground
        return [self._box]
