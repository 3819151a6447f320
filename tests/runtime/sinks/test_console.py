"""The live table and the plain lines, read back as text."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
from rich.console import Console

from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.sinks import SinkClosed
from emotion_edge.runtime.sinks.console import NOTICE, ConsoleSink, draw_estimate

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
FUSED = dict(zip(LABELS, (0.01, 0.02, 0.03, 0.81, 0.04, 0.04, 0.05), strict=True))
FACE = dict.fromkeys(LABELS, 0.125)
ESTIMATE = Estimate(
    t_ns=0,
    index=0,
    label="happy",
    confidence=0.81,
    probabilities=FUSED,
    modalities={"face": 0.7, "voice": 0.3},
    face=FACE,
    voice=FUSED,
    abstained=False,
    skew_ns=-1_200_000,
    latency_us=12_340.0,
    stages_us={},
    level="full",
)
FRAME_NS = 1_000_000_000 // 30


def draw(estimate: Estimate) -> tuple[str, list[str]]:
    """The table as lines, and the same with its styles as escape codes."""
    console = Console(file=io.StringIO(), record=True, width=90, force_terminal=True)
    console.print(draw_estimate(estimate, fps=29.97, budget_ms=45.0))
    styled = console.export_text(styles=True, clear=False)
    return styled, console.export_text().splitlines()


def test_table_shows_everything() -> None:
    """Label, bars of the three, weights, latency and its budget, rate, skew, and the notice."""
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
def test_missing_modality_is_shown(name: str) -> None:
    """A column without a face, or a voice, is empty and the first line says why."""
    _, lines = draw(replace(ESTIMATE, **{name: None}))
    assert f"no {name}" in lines[0]
    assert lines[5].split().count("-") == 1


def test_empty_estimate_is_shown() -> None:
    """No label, no number that looks like one."""
    estimate = replace(
        ESTIMATE, label=None, abstained=True, face=None, voice=None, probabilities={}
    )
    _, lines = draw(estimate)
    assert lines[0] == "abstained   no face, no voice"


def test_late_result_is_red() -> None:
    """The line with the latency turns red past the budget, and only then."""
    red = "\x1b[31m"
    assert red not in draw(ESTIMATE)[0]
    assert red in draw(replace(ESTIMATE, latency_us=45_001.0))[0]


def test_numbers_that_are_not_finite_are_drawn() -> None:
    """NaN and out-of-range values must not break the table."""
    odd = dict.fromkeys(LABELS, float("nan")) | {"sad": 1.7, "fear": -0.2}
    _, lines = draw(replace(ESTIMATE, face=odd))
    assert "nan%" in lines[5]
    assert lines[6].count("█") == 1 + 16 + 1


def test_live_table_on_a_terminal() -> None:
    """The newest estimate is drawn, the cursor comes back, closing twice is fine."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=90)
    with ConsoleSink(console=console) as sink:
        for index in range(31):
            sink.publish(replace(ESTIMATE, index=index, t_ns=index * FRAME_NS))
    sink.close()
    text = screen.getvalue()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.index(hide) < text.rindex(show)
    assert text.rindex(hide) < text.rindex(show)
    assert "30.0 fps" in text
    assert NOTICE in text


def test_before_the_first_frame() -> None:
    """A camera that is slow to start does not leave the screen empty."""
    screen = io.StringIO()
    with ConsoleSink(console=Console(file=screen, force_terminal=True, width=90)):
        pass
    assert "waiting for the first picture" in screen.getvalue()


def test_one_plain_line_per_second() -> None:
    """Without a terminal: 3 s of estimates are four lines, at 0, 1, 2 and 3 s, and the notice."""
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
    """The reader of the plain lines has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    file = os.fdopen(writing, "w")
    sink = ConsoleSink(file=file)
    with pytest.raises(SinkClosed):
        sink.publish(ESTIMATE)
    file.close()  # as the interpreter does at its end: nothing is left in it to fail again
