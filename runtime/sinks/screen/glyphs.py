"""Text as masks: Pillow draws its own font at the start, from then on only arrays are copied.

In: a size, the words that will be shown, the characters that others will be made of. Out: for any
text its coverage, 0..255, and where that lies around the pen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, takewhile

import numpy as np
from numpy.typing import NDArray

ASCII = "".join(map(chr, range(32, 127)))
DIGITS = "0123456789"
MIN_SIZE_PX = 8

Coverage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mask:
    """The ink of a text. The pen stands on the baseline where the text begins."""

    coverage: Coverage
    """(height, width)"""
    left: int
    """From the pen to the first column."""
    top: int
    """From the pen to the first row: negative above the baseline."""
    advance: float
    """From the pen to where it stands afterwards."""


def check_pillow() -> None:
    """Raises ValueError when there is no Pillow that has a font of its own (10.1)."""
    try:
        from PIL import ImageFont

        ImageFont.load_default(10)
    except (ImportError, TypeError) as error:
        raise ValueError(
            "the screen needs Pillow 10.1 or newer: pip install 'emotion-edge[screen]'"
        ) from error


def fit_size(size_px: int, words: Iterable[str], width_px: int) -> int:
    """`size_px`, or the largest size below it at which no word is wider than `width_px`."""
    from PIL import ImageFont

    font = ImageFont.load_default(size_px)
    widest_px = max(font.getlength(word) for word in words)
    return max(MIN_SIZE_PX, int(size_px * min(1.0, width_px / widest_px)))


class Typeface:
    """One size of Pillow's font (Aileron; all of its digits are equally wide)."""

    def __init__(self, size_px: int, words: Iterable[str] = (), characters: str = "") -> None:
        """`words` are drawn whole, other text is put together from `characters`."""
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
        # Those of the words, too: a word that is too long is shortened.
        single = {*characters, *"".join(self._words), "?", "."}
        self._characters = {c: draw(c) for c in single if c.isprintable()}

    def measure(self, text: str) -> float:
        """Width in pixels."""
        if text in self._words:
            return self._words[text].advance
        return sum(self._character(c).advance for c in text)

    def mask(self, text: str) -> Mask:
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
        """`text`, or its beginning and "..." where it is wider than that."""
        if self.measure(text) <= width_px:
            return text
        room_px = width_px - self.measure("...")
        ends = accumulate(self._character(c).advance for c in text)
        return text[: sum(1 for _ in takewhile(lambda end: end <= room_px, ends))].rstrip() + "..."

    def wrap(self, text: str, width_px: int, max_lines: int) -> list[str]:
        """The text in lines of at most that width; what is left over is shortened."""
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
