"""The live table and the plain lines, read back as text."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.runtime.messages import Estimate, RunInfo
from emotion_edge.runtime.sinks.console import NOTICE, ConsoleSink, PlainLines, draw_estimate

from . import estimates
from .estimates import FRAME_NS, NOTHING

ESTIMATE = replace(estimates.ESTIMATE, face=dict.fromkeys(LABELS, 0.125), skew_ns=-1_200_000)


def draw(estimate: Estimate) -> tuple[str, list[str]]:
    """Return the table with its styles as escape codes, and its lines without them."""
    console = Console(file=io.StringIO(), record=True, width=90, force_terminal=True)
    console.print(draw_estimate(estimate, fps=29.97, budget_ms=45.0))
    styled = console.export_text(styles=True, clear=False)
    return styled, console.export_text().splitlines()


def test_table_shows_everything() -> None:
    """Label, three columns of bars, weights, latency, budget, rate, skew and the notice."""
    _, lines = draw(ESTIMATE)
    assert lines[0] == "HAPPY 81%   face 70%, voice 30%"
    assert lines[1].split() == ["fused", "face", "voice"]
    assert [line.split()[0] for line in lines[2:9]] == list(LABELS)
    happy = lines[5].split()
    assert happy[2::2] == ["81%", "12%", "81%"]
    assert [bar.count("█") for bar in happy[1::2]] == [13, 2, 13]
    assert lines[9] == "12.3 of 45 ms, 30.0 fps, skew -1.2 ms, level full"
    assert lines[10] == NOTICE
    assert len(lines) == 11


@pytest.mark.parametrize("name", ["face", "voice"])
def test_missing_modality(name: str) -> None:
    """Its column is empty, and the first line names it."""
    _, lines = draw(replace(ESTIMATE, **{name: None}))
    assert f"no {name}" in lines[0]
    assert lines[5].split().count("-") == 1


def test_abstention_shows_no_label() -> None:
    _, lines = draw(NOTHING)
    assert lines[0] == "abstained   no face, no voice"


def test_late_result_is_red() -> None:
    """The line with the latency is red above the budget, and only then."""
    red = "\x1b[31m"
    assert red not in draw(ESTIMATE)[0]
    assert red in draw(replace(ESTIMATE, latency_us=45_001.0))[0]


def test_invalid_numbers_are_drawn() -> None:
    """NaN and out-of-range values do not break the table."""
    odd = dict.fromkeys(LABELS, float("nan")) | {"sad": 1.7, "fear": -0.2}
    _, lines = draw(replace(ESTIMATE, face=odd))
    assert "nan%" in lines[5]
    assert lines[6].count("█") == 1 + 16 + 1


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
    """Without a terminal, 3 s of estimates are the notice and four lines, at 0, 1, 2 and 3 s."""
    lines = PlainLines()
    text = lines.header(RunInfo("demo", ()))
    for index in range(91):
        text += lines.encode(replace(ESTIMATE, index=index, t_ns=index * 1_000_000_000 // 30))
    printed = text.decode().splitlines()
    assert printed[0] == NOTICE
    assert len(printed) == 5
    assert printed[-1] == (
        "HAPPY 81%   face 70%, voice 30% | 12.3 ms, 30.0 fps, skew -1.2 ms, level full"
    )
    assert b"\x1b" not in text
