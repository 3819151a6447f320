"""Shows estimates on the terminal: a live table, or one plain line a second without a terminal."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..messages import Estimate, SinkClosed

NOTICE = "apparent emotion - not what a person feels; nothing is recorded or sent"
NAME_WIDTH = 10
BAR_WIDTH = 16
NUMBER_WIDTH = 7
NUM_COLUMNS = 3
MAX_ROWS = 16
"""Of more labels the likeliest are shown, so that the table fits on a terminal of 24 lines."""
REFRESH_HZ = 8
FPS_WINDOW = 60
"""Number of estimates over which the rate is measured."""


class ConsoleSink:
    """Shows the newest estimate.

    `publish` only stores it. rich's own thread draws it, `REFRESH_HZ` times a second.
    """

    def __init__(
        self, budget_ms: float = 45.0, file: TextIO | None = None, console: Console | None = None
    ) -> None:
        """`file` defaults to stdout; `console` replaces the terminal in tests."""
        self._budget_ms = budget_ms
        self._file = file or sys.stdout
        self._newest: Estimate | None = None
        self._times_ns: deque[int] = deque(maxlen=FPS_WINDOW)
        self._printed_ns: int | None = None
        self._live: Live | None = None
        self._closed = False
        if console is not None or self._file.isatty():
            self._live = Live(
                console=console or Console(file=self._file),
                get_renderable=self._draw,
                refresh_per_second=REFRESH_HZ,
            )
            self._live.start()

    def publish(self, estimate: Estimate) -> None:
        """Store the estimate for the next drawing. Raises SinkClosed after the end of a pipe."""
        self._times_ns.append(estimate.t_ns)
        self._newest = estimate
        if self._live is None:
            self._print_each_second(estimate)

    def close(self) -> None:
        """Release the terminal, and leave the last table on it."""
        if self._live is not None and not self._closed:
            self._live.stop()
        self._closed = True

    def __enter__(self) -> ConsoleSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> RenderableType:
        if self._newest is None:
            return Group("waiting for the first frame", Text(NOTICE, style="dim"))
        return draw_estimate(self._newest, self._fps(), self._budget_ms)

    def _fps(self) -> float:
        """Return the estimates per second of capture time."""
        times_ns = tuple(self._times_ns)
        if len(times_ns) < 2 or times_ns[-1] <= times_ns[0]:
            return 0.0
        return (len(times_ns) - 1) * 1e9 / (times_ns[-1] - times_ns[0])

    def _print_each_second(self, estimate: Estimate) -> None:
        if self._printed_ns is not None and estimate.t_ns - self._printed_ns < 1_000_000_000:
            return
        line = f"{describe_result(estimate)} | {describe_speed(estimate, self._fps(), None)}\n"
        try:
            if self._printed_ns is None:
                self._file.write(f"{NOTICE}\n")
            self._file.write(line)
            self._file.flush()
        except BrokenPipeError as error:
            self.close()
            drop_unwritten(self._file)
            raise SinkClosed("the console's reader has closed it") from error
        self._printed_ns = estimate.t_ns


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
    labels = list(estimate.probabilities)
    name_width = max([NAME_WIDTH, *(cell_len(label) + 1 for label in labels)])
    # Long names take their room from the bars.
    bar_width = BAR_WIDTH - -(-(name_width - NAME_WIDTH) // NUM_COLUMNS)
    likeliest = sorted(labels, key=lambda label: estimate.probabilities[label])[-MAX_ROWS:]
    table = Text(no_wrap=True)
    table.append(f"{describe_result(estimate)}\n", "yellow" if estimate.abstained else "bold green")
    for heading in ("", "fused", "face", "voice"):
        table.append(heading.ljust(bar_width + NUMBER_WIDTH if heading else name_width))
    table.append("\n")
    for label, probability in estimate.probabilities.items():
        if label not in likeliest:
            continue
        name = label + " " * (name_width - cell_len(label))
        table.append(name, "bold" if label == estimate.label else "")
        _append_bar(table, probability, bar_width, "green")
        _append_bar(table, (estimate.face or {}).get(label), bar_width, "cyan")
        _append_bar(table, (estimate.voice or {}).get(label), bar_width, "magenta")
        table.append("\n")
    if len(labels) > MAX_ROWS:
        table.append(f"and {len(labels) - MAX_ROWS} less likely labels\n", "dim")
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


def _append_bar(table: Text, probability: float | None, width: int, style: str) -> None:
    if probability is None:
        table.append("-".ljust(width + NUMBER_WIDTH), "dim")
        return
    # A faulty network gives NaN: an empty bar with the number "nan".
    share = min(max(probability, 0.0), 1.0) if math.isfinite(probability) else 0.0
    table.append(("█" * round(share * width)).ljust(width, "·"), style)
    table.append(f" {probability:.0%}".ljust(NUMBER_WIDTH))
