"""The newest pictures' times, in memory that does not grow.

In: when each picture was captured and what each stage took; what else happened, in words. Out: both
again, for `trace_writer`. It keeps times, counts, and the names of stages and levels: nothing that
was seen, heard or made of it.

A `Trace` in, files out that ui.perfetto.dev opens, when asked for or when the budget was missed.

They are in the Trace Event Format ("JSON Object Format" with complete, async, instant, counter and
metadata events; times in whole microseconds), and hold times and names only, as `Trace` does.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import zip_longest
from pathlib import Path
from struct import Struct

import msgspec

from ...engines.storage import atomic_write
from ..messages import Estimate
from .latency import STAGES, read_stages

log = logging.getLogger(__name__)


_ROW = Struct(f"<4q3id{len(STAGES)}d")


@dataclass(frozen=True, slots=True)
class Row:
    """One picture, or one result made of sound alone."""

    number: int
    """Counts from 1."""
    index: int
    """Of the picture at its source."""
    captured_ns: int
    woke_ns: int
    dropped: int
    """Pictures overwritten unseen before this one."""
    level: str
    cause: str | None
    """The stage at fault when it was over the budget."""
    latency_us: float
    stages_us: dict[str, float]
    """By stage, in the order of `STAGES`; "publish" is this result's own."""


class Trace:
    """The newest `capacity` pictures and `num_events` events. One thread adds pictures, any thread
    notes events, any thread reads."""

    def __init__(self, levels: Sequence[str], capacity: int = 600, num_events: int = 100) -> None:
        """`levels`: the names that a picture's level can have."""
        self._levels = tuple(levels)
        self._numbers = {name: number for number, name in enumerate(levels)}
        self._causes = {name: number for number, name in enumerate(STAGES)}
        self._capacity = capacity
        self._rows = bytearray(_ROW.size * capacity)
        self._count = 0
        self._events: deque[tuple[int, str]] = deque(maxlen=num_events)

    def add(
        self,
        estimate: Estimate,
        captured_ns: int,
        woke_ns: int,
        dropped: int = 0,
        cause: str | None = None,
        *,
        publish_us: float = 0.0,
    ) -> None:
        """Keep the times of one result. `cause` is what `LatencyLog.add` said of it; both times are
        on the run's clock. `publish_us` is how long the sinks took this very result: the estimate
        carries that of the one before."""
        at = self._count % self._capacity * _ROW.size
        self._count += 1
        # One call, which no other thread can see the half of: it holds the interpreter.
        _ROW.pack_into(
            self._rows,
            at,
            self._count,
            estimate.index,
            captured_ns,
            woke_ns,
            dropped,
            self._numbers.get(estimate.level, -1),
            -1 if cause is None else self._causes[cause],
            estimate.latency_us,
            *read_stages(estimate.stages_us)[:-1],
            publish_us,
        )

    def add_event(self, t_ns: int, text: str) -> None:
        """Keep an event, such as a change of level or a warning, on the run's clock."""
        self._events.append((t_ns, text))

    def rows(self) -> list[Row]:
        """Oldest first."""
        rows = []
        for values in _ROW.iter_unpack(bytes(self._rows)):
            number, index, captured_ns, woke_ns, dropped, level, cause, latency_us, *stages = values
            if number:
                rows.append(
                    Row(
                        number,
                        index,
                        captured_ns,
                        woke_ns,
                        dropped,
                        self._levels[level] if level >= 0 else "",
                        STAGES[cause] if cause >= 0 else None,
                        latency_us,
                        dict(zip(STAGES, stages, strict=True)),
                    )
                )
        return sorted(rows, key=lambda row: row.number)

    def events(self) -> list[tuple[int, str]]:
        """Time and text, in the order in which they were noted."""
        return list(self._events)


MISS_PERIOD_NS = 60_000_000_000
"""Missed budgets write one trace in this time."""
MAX_FILES = 10
_NAME = re.compile(r"emotion-edge-trace-\d{8}T\d{6}Z\.json(\.part)?")
_PID, _MAIN = 1, 1


def write_trace(trace: Trace, path: Path) -> None:
    """Write all that `trace` holds to `path` in one step, without waiting for the disk. Raises
    OSError.
    """
    atomic_write(path, _encode(trace), durable=False)


def _encode(trace: Trace) -> Iterator[bytes]:
    """The file in small pieces: encoding all at once would hold the interpreter for too long."""
    yield b'{"displayTimeUnit":"ms","traceEvents":[\n'
    for number, events in enumerate(chrome_events(trace.rows(), trace.events())):
        separator = b",\n" if number else b""
        yield separator + b",\n".join(msgspec.json.encode(event) for event in events)
    yield b"\n]}\n"


def chrome_events(
    rows: Sequence[Row], events: Sequence[tuple[int, str]]
) -> Iterator[list[dict[str, object]]]:
    """What is drawn, in groups: first the names, then one group for each picture and event.

    The lane of the main thread shows each picture from when that thread woke to its result, in it
    the stages one after another, and behind it how long publishing the result took. A stage that
    ran twice (preprocessing, for face and for voice) is drawn as one. Waiting overlaps with the
    picture before, so it has a lane of its own.
    """
    name = {"ph": "M", "pid": _PID, "tid": _MAIN}
    yield [
        {**name, "name": "process_name", "args": {"name": "emotion-edge"}},
        {**name, "name": "thread_name", "args": {"name": "main thread"}},
    ]
    for row, following in zip_longest(rows, rows[1:]):
        yield _make_frame_events(row, following)
    for t_ns, text in events:
        yield [_make_instant_event(text, t_ns)]


def _make_frame_events(row: Row, following: Row | None) -> list[dict[str, object]]:
    slices = []
    end_ns = row.woke_ns
    for stage in STAGES[1:-1]:
        begin_ns, end_ns = end_ns, end_ns + round(row.stages_us[stage] * 1e3)
        if end_ns > begin_ns:
            slices.append(_make_slice_event(stage, begin_ns, end_ns))
    latency_ms = round(row.latency_us / 1e3, 3)
    args = {
        "index": row.index,
        "latency_ms": latency_ms,
        "level": row.level,
        "dropped_before": row.dropped,
    }
    # First the slice, then those in it: where two begin at once, that is the order they nest in.
    drawn = [_make_slice_event("picture", row.woke_ns, end_ns, args), *slices]
    published_ns = end_ns + round(row.stages_us[STAGES[-1]] * 1e3)
    if following is not None:
        published_ns = min(published_ns, following.woke_ns)
    if published_ns > end_ns:
        drawn.append(_make_slice_event(STAGES[-1], end_ns, published_ns))
    if row.woke_ns > row.captured_ns:
        wait = {"name": STAGES[0], "cat": "picture", "id": str(row.number)}
        wait_ends = (("b", row.captured_ns), ("e", row.woke_ns))
        drawn += [{**wait, **_at(phase, t_ns)} for phase, t_ns in wait_ends]
    if row.cause is not None:
        drawn.append(_make_instant_event(f"over budget: {row.cause}", end_ns))
    return [*drawn, {"name": "latency", **_at("C", end_ns), "args": {"ms": latency_ms}}]


def _make_slice_event(
    name: str, begin_ns: int, end_ns: int, args: dict[str, object] | None = None
) -> dict[str, object]:
    # Both ends are rounded down, and not the length: so slices that touch do so in the file, too.
    took_us = max(0, end_ns // 1000 - begin_ns // 1000)
    return {"name": name, **_at("X", begin_ns), "dur": took_us, "args": args or {}}


def _make_instant_event(name: str, t_ns: int) -> dict[str, object]:
    return {"name": name, **_at("i", t_ns), "s": "p"}


def _at(phase: str, t_ns: int) -> dict[str, object]:
    return {"ph": phase, "ts": t_ns // 1000, "pid": _PID, "tid": _MAIN}


class TraceWriter:
    """Decides when a trace is written: when it was asked for, and once a minute at most because the
    budget was missed. Keeps the newest `MAX_FILES` in its folder."""

    def __init__(
        self,
        trace: Trace,
        folder: Path,
        utc: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """`utc` tells the time of day, for the names of the files."""
        self._trace = trace
        self._folder = folder
        self._utc = utc
        self._wanted = False
        self._misses = 0
        self._written_ns: int | None = None
        self._fault = ""

    def request(self) -> None:
        """Write at the next `tick`, whatever the budget; a signal handler may call it."""
        self._wanted = True

    def tick(self, now_ns: int, misses: int) -> Path | None:
        """Write if it is time to; `misses` are those of the run so far. The file, if there is a new
        one. A folder that cannot be written is warned about when the cause is another than before,
        and whenever a trace was asked for."""
        wanted, self._wanted = self._wanted, False
        missed, self._misses = misses > self._misses, misses
        last_ns = self._written_ns
        if missed and (last_ns is None or not 0 <= now_ns - last_ns < MISS_PERIOD_NS):
            self._written_ns = now_ns
        elif not wanted:
            return None
        path = self._folder / f"emotion-edge-trace-{self._utc():%Y%m%dT%H%M%SZ}.json"
        try:
            write_trace(self._trace, path)
        except OSError as error:
            before, self._fault = self._fault, error.strerror or str(error)
            if wanted or self._fault != before:
                log.warning("no trace in %s: %s", self._folder, self._fault)
            return None
        self._fault = ""
        log.info("wrote %s", path)
        with suppress(OSError):
            self._drop_old(path)
        return path

    def _drop_old(self, newest: Path) -> None:
        """By name, and never the newest: a board without a battery may call it the oldest."""
        others = sorted(
            file
            for file in self._folder.iterdir()
            if _NAME.fullmatch(file.name) and file != newest and file.is_file()
        )
        whole = [file for file in others if file.suffix == ".json"]
        parts = [file for file in others if file.suffix == ".part"]  # of runs that were killed
        for file in [*parts, *whole[: max(0, len(whole) + 1 - MAX_FILES)]]:
            file.unlink(missing_ok=True)
