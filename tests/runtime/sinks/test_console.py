"""The live table and the plain lines, read back as text."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime.messages import Estimate, SinkClosed
from emotion_edge.runtime.sinks.console import NOTICE, ConsoleSink, draw_estimate

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
    assert starts == {lines[1].index("fused")}
    wanted = [f" {shares[label]:.0%} " for label in labels[-16:]]
    assert all(number in line for number, line in zip(wanted, shown, strict=True))


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
    file = io.StringIO()
    with ConsoleSink(file=file) as sink:
        for index in range(91):
            sink.publish(replace(ESTIMATE, index=index, t_ns=index * 1_000_000_000 // 30))
    lines = file.getvalue().splitlines()
    assert lines[0] == NOTICE
    assert len(lines) == 5
    assert lines[-1] == (
        "HAPPY 81%   face 70%, voice 30% | 12.3 ms, 30.0 fps, skew -1.2 ms, level full"
    )
    assert "\x1b" not in file.getvalue()


def test_closed_pipe_ends_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    file = os.fdopen(writing, "w")
    sink = ConsoleSink(file=file)
    with pytest.raises(SinkClosed):
        sink.publish(ESTIMATE)
    file.close()  # as at the interpreter's exit: nothing is left to fail again
