"""Texts of others in one line of a terminal or a journal.

In: a message that may hold names and values of files, or what a library says. Out: the same in one
line, short, without control characters: a terminal would obey them.
"""

from __future__ import annotations

import logging
import re
import reprlib

MAX_LETTERS = 1000
"""Of a message. The rules that a wrong value breaks stand at its end, so the middle is left out."""
MAX_VALUE_LETTERS = 120
CUT = " … "

_values = reprlib.Repr()
_values.maxstring = _values.maxlong = _values.maxother = MAX_VALUE_LETTERS
_values.maxlevel = 3


def make_plain(text: str, limit: int = MAX_LETTERS) -> str:
    """Return `text` in one line of at most about `limit` letters, control characters escaped."""
    text = _cut(text.strip(), limit)  # first: the rest takes time for each letter
    line = re.sub(r"\s*[\r\n]\s*", " ", text)
    return _cut(escape(line), limit)


def escape(text: str) -> str:
    """Escape what cannot be printed."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def show_value(value: object) -> str:
    """Return a value as Python writes it, shortened."""
    return _values.repr(value)


def log_to_stderr(level: str, format_text: str) -> None:
    """Configure logging of this process, unless somebody has done so."""
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter(format_text))
    logging.basicConfig(level=level, handlers=[handler])


class _PlainFormatter(logging.Formatter):
    """Makes every message plain. Tracebacks, which are our own, stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (of the base class)
        return make_plain(super().formatMessage(record))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end]}{CUT}{text[-end:]}"


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
