"""Shows estimates on the terminal: a live table, or one plain line a second without a terminal."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import deque
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..messages import Estimate, RunInfo

PURPOSE = "apparent emotion - not what a person feels"
NAME_WIDTH = 10
BAR_WIDTH = 16
NUMBER_WIDTH = 7
MIN_BAR_WIDTH = 4
"""Of the three columns. A narrower terminal shows the first alone."""
MAX_ROWS = 16
"""Of more labels the likeliest are shown, so that the table fits on a terminal of 24 lines."""
REFRESH_HZ = 8
FPS_WINDOW = 60
"""Number of estimates over which the rate is measured."""
DEMO = (
    "█▀▄ █▀▀ █▀▄▀█ █▀█",
    "█ █ █▀▀ █ ▀ █ █ █",
    "▀▀  ▀▀▀ ▀   ▀ ▀▀▀",
)
DEMO_TEXT = "a drawn face and a synthetic voice, not a camera"
UNKNOWN = RunInfo("", ())


class ConsoleSink:
    """Shows the newest estimate on a terminal.

    `publish` only stores it. rich's own thread draws it, `REFRESH_HZ` times a second.
    """

    def __init__(
        self,
        budget_ms: float = 45.0,
        destinations: str = "nothing is recorded or sent",
        console: Console | None = None,
    ) -> None:
        """`destinations` says where estimates go besides. `console` replaces the terminal in
        tests."""
        self._budget_ms = budget_ms
        self._notice = f"{PURPOSE}; {destinations}"
        self._info = UNKNOWN
        self._newest: Estimate | None = None
        self._rate = FrameRate()
        self._closed = False
        self._console = console or Console(file=sys.stdout)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=REFRESH_HZ,
            # Into a file they go as they are.
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._live.start()
        self._handlers = _redirect_logging()

    def begin(self, info: RunInfo) -> None:
        """Show the source."""
        self._info = info

    def publish(self, estimate: Estimate) -> None:
        """Store the estimate for the next drawing."""
        self._rate.add(estimate.t_ns)
        self._newest = estimate

    def close(self) -> None:
        """Release the terminal, and leave the last table on it."""
        if not self._closed:
            self._closed = True
            self._live.stop()
            for handler, stream in self._handlers:
                handler.setStream(stream)

    def __enter__(self) -> ConsoleSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._info.is_demo:
            parts += [Text("\n".join(DEMO), "bold yellow", no_wrap=True), Text(DEMO_TEXT, "yellow")]
        elif self._info.source:
            parts.append(Text(f"source: {self._info.source}", "dim"))
        if self._newest is None:
            parts.append(Text("waiting for the first frame"))
        else:
            width = self._console.width
            parts += draw_estimate(self._newest, self._info, width)
            speed = describe_speed(self._newest, self._rate.fps(), self._budget_ms)
            late = self._newest.latency_us / 1e3 > self._budget_ms
            parts.append(Text(speed, "red" if late else "dim"))
        return Group(*parts, Text(self._notice, "dim"))


def _redirect_logging() -> list[tuple[logging.StreamHandler[TextIO], TextIO]]:
    """Let log lines go where `sys.stderr` goes now: above the live table. Return the handlers of
    standard error and what they wrote to."""
    before = sys.__stderr__
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is before
    ]
    for handler in handlers:
        handler.setStream(sys.stderr)
    return [(handler, before) for handler in handlers if before is not None]


class PlainLines:
    """The encoder of the console where there is no terminal: one line a second."""

    def __init__(self, destinations: str = "nothing is recorded or sent") -> None:
        """`destinations` says where estimates go besides."""
        self._notice = f"{PURPOSE}; {destinations}"
        self._info = UNKNOWN
        self._rate = FrameRate()
        self._printed_ns: int | None = None

    def header(self, info: RunInfo) -> bytes:
        """Return the notice and the source."""
        self._info = info
        source = f"DEMO: {DEMO_TEXT}" if info.is_demo else f"source: {info.source}"
        return f"{self._notice}\n{source}\n".encode()

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
        return f"{describe_result(estimate, self._info)} | {speed}\n".encode()

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
    """Return whether standard output is a terminal on which a table can be redrawn."""
    if sys.__stdout__ is None or not sys.stdout.isatty():
        return False
    return os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def drop_unwritten(file: TextIO) -> None:
    """Discard the buffer of a closed pipe, which would fail again at the interpreter's exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, file.fileno())
    os.close(null)
    file.flush()


def draw_estimate(estimate: Estimate, info: RunInfo, width: int) -> list[Text]:
    """Return the result and the table of one estimate, for a terminal of `width` columns.

    The table is one text in columns: rich's Table takes several times longer to lay out, and
    meanwhile holds the interpreter lock that the pipeline needs.
    """
    headline = Text(
        describe_result(estimate, info), "yellow" if estimate.abstained else "bold green"
    )
    labels = list(estimate.probabilities)
    likeliest = sorted(labels, key=lambda label: estimate.probabilities[label])[-MAX_ROWS:]
    names = [cell_len(label) + 1 for label in labels]
    name_width = min(max([NAME_WIDTH, *names]), max(NAME_WIDTH, width // 3))
    columns: tuple[str, ...] = ("fused", "face", "voice")
    bar_width = min(BAR_WIDTH, (width - name_width) // len(columns) - NUMBER_WIDTH)
    if bar_width < MIN_BAR_WIDTH:
        columns = columns[:1]
        bar_width = max(0, min(BAR_WIDTH, width - name_width - NUMBER_WIDTH))
    table = Text(no_wrap=True)
    table.append(" " * name_width)
    for column in columns:
        table.append(column.ljust(bar_width + NUMBER_WIDTH))
    shown = (estimate.probabilities, estimate.face or {}, estimate.voice or {})
    for label in labels:
        if label not in likeliest:
            continue
        name = label
        if cell_len(label) >= name_width:
            name = f"{set_cell_size(label, name_width - 2)}…"
        name = set_cell_size(name, name_width)
        table.append(f"\n{name}", "bold" if label == estimate.label else "")
        for _, values, style in zip(columns, shown, ("green", "cyan", "magenta"), strict=False):
            _append_bar(table, values.get(label), bar_width, style)
    if len(labels) > MAX_ROWS:
        table.append(f"\nand {len(labels) - MAX_ROWS} less likely labels", "dim")
    return [headline, table]


def describe_result(estimate: Estimate, info: RunInfo) -> str:
    """Return the label and the modalities, such as "HAPPY 81 %   face 70 %, voice 30 %"."""
    parts = []
    for name, output in (("face", estimate.face), ("voice", estimate.voice)):
        weight = estimate.modalities.get(name, 0.0)
        parts.append(f"no {name}" if output is None else f"{name} {weight:.0%}")
    if estimate.voice is None:
        parts[-1] += f" ({explain_no_voice(estimate, info)})"
    if estimate.abstained or estimate.label is None:
        result = "abstained"
    else:
        result = f"{estimate.label.upper()} {estimate.confidence:.0%}"
    return f"{result}   {', '.join(parts)}"


def explain_no_voice(estimate: Estimate, info: RunInfo) -> str:
    """Return why an estimate has no voice."""
    if not info.has_audio:
        return "no audio"
    if estimate.level in info.levels_without_voice:
        return f"off at level {estimate.level}"
    return "no speech"


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
