"""Text as masks."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

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
    """No empty row or column around it."""
    for text in ("Happy", "Happiness", "g"):
        ink = face.mask(text).coverage
        assert ink[0].any()
        assert ink[-1].any()
        assert ink[:, 0].any()
        assert ink[:, -1].any()


def test_composed_text_equals_text_drawn_at_once(face: Typeface) -> None:
    """A text made of characters is as wide as the word, give or take a pixel per letter."""
    pieces = Typeface(24, characters=ASCII)
    whole, made = face.mask("Happy"), pieces.mask("Happy")
    assert made.coverage.shape[0] == whole.coverage.shape[0]
    assert abs(made.coverage.shape[1] - whole.coverage.shape[1]) <= 5
    assert made.top == whole.top


def test_digits_are_equally_wide(face: Typeface) -> None:
    """So numbers do not jump while they count."""
    assert len({face.measure(digit) for digit in DIGITS}) == 1


def test_baseline(face: Typeface) -> None:
    """A capital stands on it, a g hangs below."""
    assert face.mask("H").top == -face.cap_px
    hanging = face.mask("g")
    assert hanging.top + hanging.coverage.shape[0] > 2


def test_texts_without_ink(face: Typeface) -> None:
    """Nothing and blanks."""
    assert face.mask("").coverage.size == 0
    blank = face.mask("   ")
    assert blank.coverage.size == 0
    assert blank.advance == face.measure("   ") > 0


def test_characters_that_are_missing(face: Typeface) -> None:
    """Each is a question mark."""
    assert face.measure("日") == face.measure("?")
    assert face.mask("日").coverage.shape == face.mask("?").coverage.shape


def test_shorten(face: Typeface) -> None:
    """As much as fits, and dots."""
    assert face.shorten("short", 500) == "short"
    short = face.shorten("a very long line of text", 120)
    assert short.endswith("...")
    assert face.measure(short) <= 120
    assert face.shorten("anything", 0) == "..."


def test_wrap(face: Typeface) -> None:
    """Lines of whole words; the last one takes what is left, shortened."""
    text = "one two three four five six seven eight nine ten"
    lines = face.wrap(text, 150, 8)
    assert " ".join(lines) == text
    assert all(face.measure(line) <= 150 for line in lines)
    two = face.wrap(text, 150, 2)
    assert len(two) == 2
    assert two[-1].endswith("...")
    assert face.wrap("  ", 150, 8) == []


def test_fit_size() -> None:
    """The wanted size, or what the widest word leaves of it."""
    assert fit_size(40, ["i"], 500) == 40
    size_px = fit_size(40, ["i", "wwwwwwwwwwww"], 100)
    assert Typeface(size_px, ["wwwwwwwwwwww"]).measure("wwwwwwwwwwww") <= 101
    assert fit_size(40, ["w" * 500], 100) == 8


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install; so does a Pillow too old to have a font of its own."""
    from PIL import ImageFont

    def load_default() -> None: ...

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    with pytest.raises(
        ValueError, match=r"Pillow 10\.1 or newer: pip install 'emotion-edge\[screen"
    ):
        check_pillow()
    import_ = builtins.__import__

    def refuse(
        name: str,
        given: Mapping[str, Any] | None = None,
        local: Mapping[str, Any] | None = None,
        names: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if name.startswith("PIL"):
            raise ImportError(f"No module named {name!r}")
        return import_(name, given, local, names or (), level)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match="pip install"):
        check_pillow()
