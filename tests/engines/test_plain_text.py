"""Messages that hold what others wrote."""

from __future__ import annotations

import logging

import pytest

from emotion_edge.engines.plain_text import CUT, log_to_stderr, make_plain, show_value

ESCAPES = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e"


def test_escapes_of_terminals_are_shown() -> None:
    """And not obeyed."""
    plain = make_plain(f"face.onnx: input {ESCAPES} is unknown")
    assert plain.isprintable()
    assert plain.startswith("face.onnx: input ")
    assert plain.endswith(" is unknown")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n  "])
def test_one_line(ends: str) -> None:
    assert make_plain(f"  first{ends}second  third\n") == "first second  third"


def test_both_ends_of_a_long_text_stay() -> None:
    plain = make_plain("begin" + "\x1b" * 1_000_000 + "end", 100)
    assert plain.startswith("begin")
    assert plain.endswith("end")
    assert CUT in plain
    assert len(plain) <= 100 + len(CUT)


def test_bytes_of_names_are_shown() -> None:
    assert make_plain(b"caf\xe9".decode(errors="surrogateescape")) == r"caf\xe9"


@pytest.mark.parametrize("value", ["x" * 10**6, 10**4000, [["x"] * 10**5] * 100, {"k" * 10**6: 1}])
def test_values_are_short(value: object) -> None:
    assert len(show_value(value)) < 2000


def test_log_lines_are_plain(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever logs, and whatever a library says."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        log_to_stderr("WARNING", "%(levelname)s %(message)s")
        logging.getLogger("a library").warning("%s\nFORGED line", ESCAPES)
    finally:
        root.handlers = before
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "FORGED" in lines[0]
