"""Shows estimates on the terminal: a live table, or one plain line a second without a terminal."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..messages import Estimate, RunInfo

NOTICE = "apparent emotion - not what a person feels; nothing is recorded or sent"
NAME_WIDTH = 10
BAR_WIDTH = 16
COLUMN_WIDTH = BAR_WIDTH + 7
REFRESH_HZ = 8
FPS_WINDOW = 60
"""Number of estimates over which the rate is measured."""


class ConsoleSink:
    """Shows the newest estimate on a terminal.

    `publish` only stores it. rich's own thread draws it, `REFRESH_HZ` times a second.
    """

    def __init__(self, budget_ms: float = 45.0, console: Console | None = None) -> None:
        """`console` replaces the terminal in tests."""
        self._budget_ms = budget_ms
        self._newest: Estimate | None = None
        self._rate = FrameRate()
        self._closed = False
        self._live = Live(
            console=console or Console(file=sys.stdout),
            get_renderable=self._draw,
            refresh_per_second=REFRESH_HZ,
        )
        self._live.start()

    def publish(self, estimate: Estimate) -> None:
        """Store the estimate for the next drawing."""
        self._rate.add(estimate.t_ns)
        self._newest = estimate

    def close(self) -> None:
        """Release the terminal, and leave the last table on it."""
        if not self._closed:
            self._closed = True
            self._live.stop()

    def __enter__(self) -> ConsoleSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> RenderableType:
        if self._newest is None:
            return Group("waiting for the first frame", Text(NOTICE, style="dim"))
        return draw_estimate(self._newest, self._rate.fps(), self._budget_ms)


class PlainLines:
    """The encoder of the console where there is no terminal: one line a second."""

    def __init__(self) -> None:
        self._rate = FrameRate()
        self._printed_ns: int | None = None

    def header(self, info: RunInfo) -> bytes:
        del info
        return f"{NOTICE}\n".encode()

    def is_own(self, first_line: bytes) -> bool:
        """Return True: standard output is never checked."""
        del first_line
        return True

    def encode(self, estimate: Estimate) -> bytes:
        """Return a line, once a second."""
        self._rate.add(estimate.t_ns)
        if self._printed_ns is not None and estimate.t_ns - self._printed_ns < 1_000_000_000:
            return b""
        self._printed_ns = estimate.t_ns
        speed = describe_speed(estimate, self._rate.fps(), None)
        return f"{describe_result(estimate)} | {speed}\n".encode()

    def finish(self) -> bytes:
        return b""


class FrameRate:
    """Estimates per second of capture time, over the last ones."""

    def __init__(self) -> None:
        self._times_ns: deque[int] = deque(maxlen=FPS_WINDOW)

    def add(self, t_ns: int) -> None:
        self._times_ns.append(t_ns)

    def fps(self) -> float:
        """Return the rate; any thread may call it."""
        times_ns = tuple(self._times_ns)
        if len(times_ns) < 2 or times_ns[-1] <= times_ns[0]:
            return 0.0
        return (len(times_ns) - 1) * 1e9 / (times_ns[-1] - times_ns[0])


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.__stdout__ is not None and sys.stdout.isatty()


def drop_unwritten(file: TextIO) -> None:
    """Discard the buffer of a closed pipe, which would fail again at the interpreter's exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, file.fileno())
    os.close(null)
    file.flush()


def draw_estimate(estimate: Estimate, fps: float, budget_ms: float) -> Text:
    """Return the live table of one estimate.

    It is one text in columns: rich's Table takes several times longer to lay out, and meanwhile
    holds the interpreter lock that the pipeline needs.
    """
    late = estimate.latency_us / 1e3 > budget_ms
    table = Text(no_wrap=True)
    table.append(f"{describe_result(estimate)}\n", "yellow" if estimate.abstained else "bold green")
    for heading in ("", "fused", "face", "voice"):
        table.append(heading.ljust(COLUMN_WIDTH if heading else NAME_WIDTH))
    table.append("\n")
    for label, probability in estimate.probabilities.items():
        table.append(label.ljust(NAME_WIDTH), "bold" if label == estimate.label else "")
        _append_bar(table, probability, "green")
        _append_bar(table, (estimate.face or {}).get(label), "cyan")
        _append_bar(table, (estimate.voice or {}).get(label), "magenta")
        table.append("\n")
    table.append(f"{describe_speed(estimate, fps, budget_ms)}\n", "red" if late else "dim")
    return table.append(NOTICE, "dim")


def describe_result(estimate: Estimate) -> str:
    """Return the label and the modalities, such as "HAPPY 81 %   face 70 %, voice 30 %"."""
    parts = []
    for name, output in (("face", estimate.face), ("voice", estimate.voice)):
        weight = estimate.modalities.get(name, 0.0)
        parts.append(f"no {name}" if output is None else f"{name} {weight:.0%}")
    if estimate.abstained or estimate.label is None:
        result = "abstained"
    else:
        result = f"{estimate.label.upper()} {estimate.confidence:.0%}"
    return f"{result}   {', '.join(parts)}"


def describe_speed(estimate: Estimate, fps: float, budget_ms: float | None) -> str:
    """Return latency, rate, skew and level in one line."""
    budget = "" if budget_ms is None else f" of {budget_ms:.0f}"
    return (
        f"{estimate.latency_us / 1e3:.1f}{budget} ms, {fps:.1f} fps, "
        f"skew {estimate.skew_ns / 1e6:+.1f} ms, level {estimate.level}"
    )


def _append_bar(table: Text, probability: float | None, style: str) -> None:
    if probability is None:
        table.append("-".ljust(COLUMN_WIDTH), "dim")
        return
    # A faulty network gives NaN: an empty bar with the number "nan".
    share = min(max(probability, 0.0), 1.0) if math.isfinite(probability) else 0.0
    table.append(("█" * round(share * BAR_WIDTH)).ljust(BAR_WIDTH, "·"), style)
    table.append(f" {probability:.0%}".ljust(COLUMN_WIDTH - BAR_WIDTH))
