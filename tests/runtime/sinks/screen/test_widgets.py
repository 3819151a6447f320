"""Typefaces: text as masks of ink."""

from __future__ import annotations

import sys

import pytest

from emotion_edge.runtime.sinks.screen.widgets import (
    ASCII,
    DIGITS,
    Typeface,
    check_pillow,
    fit_size,
)


@pytest.fixture(scope="module")
def face() -> Typeface:
    return Typeface(24, words=["Happy"], characters=ASCII)


def test_ink_is_trimmed(face: Typeface) -> None:
    """It has no empty row or column at its edges."""
    for text in ("Happy", "Happiness", "g"):
        ink = face.mask(text).coverage
        assert ink[0].any()
        assert ink[-1].any()
        assert ink[:, 0].any()
        assert ink[:, -1].any()


def test_composed_text_equals_rendered_text(face: Typeface) -> None:
    """A text composed of characters is as wide as the word, to a pixel per letter."""
    pieces = Typeface(24, characters=ASCII)
    whole, made = face.mask("Happy"), pieces.mask("Happy")
    assert made.coverage.shape[0] == whole.coverage.shape[0]
    assert abs(made.coverage.shape[1] - whole.coverage.shape[1]) <= 5
    assert made.top == whole.top


def test_digits_are_equally_wide(face: Typeface) -> None:
    """So changing numbers do not move."""
    assert len({face.measure(digit) for digit in DIGITS}) == 1


def test_baseline(face: Typeface) -> None:
    """A capital ends on it, a g below it."""
    assert face.mask("H").top == -face.cap_px
    hanging = face.mask("g")
    assert hanging.top + hanging.coverage.shape[0] > 2


def test_texts_without_ink(face: Typeface) -> None:
    assert face.mask("").coverage.size == 0
    blank = face.mask("   ")
    assert blank.coverage.size == 0
    assert blank.advance == face.measure("   ") > 0


def test_missing_characters(face: Typeface) -> None:
    """Each is drawn as a question mark."""
    assert face.measure("日") == face.measure("?")
    assert face.mask("日").coverage.shape == face.mask("?").coverage.shape


def test_shorten(face: Typeface) -> None:
    """To the beginning that fits, and dots."""
    assert face.shorten("short", 500) == "short"
    short = face.shorten("a very long line of text", 120)
    assert short.endswith("...")
    assert face.measure(short) <= 120
    assert face.shorten("anything", 0) == "..."


def test_wrap(face: Typeface) -> None:
    """Into lines of whole words; the last line is shortened."""
    text = "one two three four five six seven eight nine ten"
    lines = face.wrap(text, 150, 8)
    assert " ".join(lines) == text
    assert all(face.measure(line) <= 150 for line in lines)
    two = face.wrap(text, 150, 2)
    assert len(two) == 2
    assert two[-1].endswith("...")
    assert face.wrap("  ", 150, 8) == []


def test_fit_size() -> None:
    """The given size, or the largest at which the widest word fits."""
    assert fit_size(40, ["i"], 500) == 40
    size_px = fit_size(40, ["i", "wwwwwwwwwwww"], 100)
    assert Typeface(size_px, ["wwwwwwwwwwww"]).measure("wwwwwwwwwwww") <= 101
    assert fit_size(40, ["w" * 500], 100) == 8


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, or too old to have a font of its own: the error names the extra to install."""
    from PIL import ImageFont

    def load_default() -> None: ...

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    with pytest.raises(ValueError, match=r"emotion-edge\[screen\]"):
        check_pillow()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match=r"emotion-edge\[screen\]"):
        check_pillow()
