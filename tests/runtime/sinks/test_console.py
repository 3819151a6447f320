"""The live table and the plain lines, read back as text."""

from __future__ import annotations

import io
import logging
import sys
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.messages import Estimate, RunInfo
from emotion_edge.runtime.sinks import describe_destinations
from emotion_edge.runtime.sinks.console import DEMO, ConsoleSink, PlainLines, is_terminal

from . import estimates
from .estimates import FRAME_NS, NOTHING

ESTIMATE = replace(estimates.ESTIMATE, face=dict.fromkeys(LABELS, 0.125), skew_ns=-1_200_000)


INFO = RunInfo("/dev/video0", LABELS, levels_without_voice=("minimal",))
NOTICE = "apparent emotion - not what a person feels; nothing is recorded or sent"


def draw(estimate: Estimate, info: RunInfo = INFO, width: int = 90) -> tuple[str, list[str]]:
    """Return what the terminal shows, with styles as escape codes, and the lines without them."""
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    sink = ConsoleSink(console=console)
    sink.begin(info)
    for index in (0, 1):
        sink.publish(replace(estimate, t_ns=index * FRAME_NS))
    sink.close()
    console.clear()
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    console.print(sink._draw())
    styled = console.export_text(styles=True, clear=False)
    return styled, [line.rstrip() for line in console.export_text().splitlines()]


def test_table_shows_everything() -> None:
    """Source, label, three columns of bars, weights, latency, budget, rate, skew and the notice."""
    _, lines = draw(ESTIMATE)
    assert lines[:2] == ["source: /dev/video0", "HAPPY 81%   face 70%, voice 30%"]
    assert lines[2].split() == ["fused", "face", "voice"]
    assert [line.split()[0] for line in lines[3:10]] == list(LABELS)
    happy = lines[6].split()
    assert happy[2::2] == ["81%", "12%", "81%"]
    assert [bar.count("█") for bar in happy[1::2]] == [13, 2, 13]
    assert lines[10:] == ["12.3 of 45 ms, 30.0 fps, skew -1.2 ms, level full", NOTICE]


def test_demo_is_written_large() -> None:
    """Its face reads like a person's otherwise."""
    _, lines = draw(ESTIMATE, RunInfo("demo", LABELS))
    assert lines[:3] == list(DEMO)
    assert not any("DEMO" in line or "█▀▄" in line for line in draw(ESTIMATE)[1])


@pytest.mark.parametrize("width", [20, 40, 78, 200])
def test_width_of_the_terminal(width: int) -> None:
    """The first column always fits, with its numbers; the others where there is room."""
    _, lines = draw(ESTIMATE, width=width)
    assert max(map(len, lines)) <= width
    happy = next(line.split() for line in lines if line.startswith("happy"))
    assert [word for word in happy if word.endswith("%")] == (
        ["81%", "12%", "81%"] if width > 42 else ["81%"]
    )


def test_long_labels() -> None:
    """They are cut off where the column would take the terminal."""
    labels = ("a label of many words, no end", "calm")
    probabilities = dict(zip(labels, (0.75, 0.25), strict=True))
    _, lines = draw(replace(ESTIMATE, probabilities=probabilities), width=60)
    assert lines[3].startswith("a label of many wo… ███")
    assert lines[4].split()[0] == "calm"


@pytest.mark.parametrize(
    ("info", "level", "reason"),
    [
        (INFO, "high", "no speech"),
        (INFO, "minimal", "off at level minimal"),
        (replace(INFO, has_audio=False), "minimal", "no audio"),
    ],
)
def test_why_there_is_no_voice(info: RunInfo, level: str, reason: str) -> None:
    _, lines = draw(replace(ESTIMATE, voice=None, level=level), info)
    assert f"no voice ({reason})" in lines[1]


def test_log_lines_are_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not through it: the live display prints them, and the log is as it was at the end."""
    screen, before = io.StringIO(), io.StringIO()
    monkeypatch.setattr(before, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", before)
    monkeypatch.setattr(sys, "__stderr__", before)
    handler = logging.StreamHandler(before)
    logger = logging.getLogger()
    logger.addHandler(handler)
    try:
        with ConsoleSink(console=Console(file=screen, force_terminal=True, width=90)):
            logger.warning("a fault")
            assert "a fault\n" in screen.getvalue()
        assert before.getvalue() == ""
        logger.warning("another")
        assert before.getvalue() == "another\n"
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("specs", "settings", "parts"),
    [
        (["console", "screen", "null"], [], ["nothing is recorded or sent"]),
        (["console", "jsonl:a", "serial:/dev/b"], [], ["estimates go to jsonl:a, serial:/dev/b"]),
        (["console"], ["metrics.port=99"], ["127.0.0.1:99"]),
        (["console", "csv:a"], ["trace.folder=/b"], ["csv:a", "/b", "no image or audio"]),
    ],
)
def test_where_estimates_go(specs: list[str], settings: list[str], parts: list[str]) -> None:
    """That nothing is recorded or sent is said only where it is true."""
    text = describe_destinations(specs, load_config(None, settings))
    assert [part for part in parts if part not in text] == []
    assert ("nothing" in text) == (parts[0].startswith("nothing"))


@pytest.mark.parametrize("term", ["dumb", "", "xterm"])
def test_terminal_that_cannot_redraw(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """It gets plain lines."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    assert is_terminal() == (term == "xterm")


@pytest.mark.parametrize("name", ["face", "voice"])
def test_missing_modality(name: str) -> None:
    """Its column is empty, and the first line names it."""
    _, lines = draw(replace(ESTIMATE, **{name: None}))
    assert f"no {name}" in lines[1]
    assert lines[6].split().count("-") == 1


@pytest.mark.parametrize(
    "labels",
    [("calm", "tense"), ("x" * 32, "日本" * 8), tuple(f"state {n}" for n in range(32))],
    ids=["few", "long", "many"],
)
def test_other_labels(labels: tuple[str, ...]) -> None:
    """Every line fits into 80 columns, and the columns are straight; of many labels the likeliest
    are shown, in the bundle's order, on a terminal of 24 lines."""
    shares = {label: 0.01 * n for n, label in enumerate(labels)}
    _, lines = draw(
        replace(
            ESTIMATE, label=labels[-1], labels=labels, probabilities=shares, face=shares, voice=None
        )
    )
    assert all(cell_len(line) <= 80 for line in lines[:-1])
    assert len(lines) <= 23
    shown = [line for line in lines if "·" in line]
    bars = [min(line.find(sign) % len(line) for sign in "█·") for line in shown]
    starts = {cell_len(line[:bar]) for line, bar in zip(shown, bars, strict=True)}
    heading = next(line for line in lines if "fused" in line)
    assert starts == {heading.index("fused")}
    wanted = [f" {shares[label]:.0%} " for label in labels[-16:]]
    assert all(number in line for number, line in zip(wanted, shown, strict=True))


def test_abstention_shows_no_label() -> None:
    _, lines = draw(NOTHING)
    assert lines[1] == "abstained   no face, no voice (no speech)"


def test_late_result_is_red() -> None:
    """The line with the latency is red above the budget, and only then."""
    red = "\x1b[31m"
    assert red not in draw(ESTIMATE)[0]
    assert red in draw(replace(ESTIMATE, latency_us=45_001.0))[0]


def test_invalid_numbers_are_drawn() -> None:
    """NaN and out-of-range values do not break the table."""
    odd = dict.fromkeys(LABELS, float("nan")) | {"sad": 1.7, "fear": -0.2}
    _, lines = draw(replace(ESTIMATE, face=odd))
    assert "nan%" in lines[6]
    assert lines[7].count("█") == 1 + 16 + 1


def test_live_table_on_a_terminal() -> None:
    """The newest estimate is drawn, the cursor comes back, and a second close is harmless."""
    screen = io.StringIO()
    with ConsoleSink(console=Console(file=screen, force_terminal=True, width=90)) as sink:
        for index in range(31):
            sink.publish(replace(ESTIMATE, index=index, t_ns=index * FRAME_NS))
    sink.close()
    text = screen.getvalue()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.index(hide) < text.rindex(show)
    assert text.rindex(hide) < text.rindex(show)
    assert "30.0 fps" in text
    assert NOTICE in text


def test_table_before_the_first_frame() -> None:
    """A slow camera does not leave the terminal empty."""
    screen = io.StringIO()
    with ConsoleSink(console=Console(file=screen, force_terminal=True, width=90)):
        pass
    assert NOTICE in screen.getvalue()


def test_one_plain_line_per_second() -> None:
    """Without a terminal, 3 s of estimates are the notice, the source and lines at 0 to 3 s."""
    lines = PlainLines()
    text = lines.header(RunInfo("demo", ()))
    for index in range(91):
        text += lines.encode(replace(ESTIMATE, index=index, t_ns=index * 1_000_000_000 // 30))
    printed = text.decode().splitlines()
    assert printed[0] == NOTICE
    assert printed[1].startswith("DEMO")
    assert len(printed) == 6
    assert printed[-1] == (
        "HAPPY 81%   face 70%, voice 30% | 12.3 ms, 30.0 fps, skew -1.2 ms, level full"
    )
    assert b"\x1b" not in text
