"""The times of the newest frames: a ring buffer in memory, and trace files on request.

In: the capture time of each frame and the duration of each stage; events as text. Out: files that
ui.perfetto.dev opens, written on request or after a missed budget.

A trace holds times, counts, and the names of stages and levels. It holds no image, no audio and no
estimate. The files are in the Trace Event Format ("JSON Object Format" with complete, async,
instant, counter and metadata events; times in whole microseconds).
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

MISS_PERIOD_NS = 60_000_000_000
"""Missed budgets write at most one trace in this time."""
MAX_FILES = 10
_NAME = re.compile(r"emotion-edge-trace-\d{8}T\d{6}Z\.json(\.part)?")
_PID, _MAIN = 1, 1
_ROW = Struct(f"<4q3id{len(STAGES)}d")


@dataclass(frozen=True, slots=True)
class Row:
    """One result: of a frame, or of audio alone."""

    number: int
    """Counts from 1."""
    index: int
    """Number of the frame at its source."""
    captured_ns: int
    woke_ns: int
    dropped: int
    """Frames lost before this one."""
    level: str
    cause: str | None
    """The stage that caused a missed budget."""
    latency_us: float
    stages_us: dict[str, float]
    """By stage, in the order of `STAGES`; "publish" is this result's own."""


class Trace:
    """A ring of the newest `capacity` results and `num_events` events. One thread adds results; any
    thread adds events; any thread reads."""

    def __init__(self, levels: Sequence[str], capacity: int = 600, num_events: int = 100) -> None:
        """`levels`: the names of the quality levels."""
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
        """Add the times of one result, on the run's clock. `cause` is the result of
        `LatencyLog.add`. `publish_us` is this result's own: the estimate carries the one before."""
        at = self._count % self._capacity * _ROW.size
        self._count += 1
        # One call holds the interpreter lock, so no other thread sees half a row.
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
        """Add an event, such as a change of the level, on the run's clock."""
        self._events.append((t_ns, text))

    def rows(self) -> list[Row]:
        """Return the rows, oldest first."""
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
        """Return (time, text) of the events, oldest first."""
        return list(self._events)


class TraceWriter:
    """Writes a trace on request, and at most once a minute after missed budgets. Keeps the newest
    `MAX_FILES` in its folder."""

    def __init__(
        self,
        trace: Trace,
        folder: Path,
        utc: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """`utc` returns the time of day, for the file names."""
        self._trace = trace
        self._folder = folder
        self._utc = utc
        self._wanted = False
        self._misses = 0
        self._written_ns: int | None = None
        self._fault = ""

    def request(self) -> None:
        """Write at the next `tick`. A signal handler may call it."""
        self._wanted = True

    def tick(self, now_ns: int, misses: int) -> Path | None:
        """Write a trace if one is due, and return its path. `misses`: the count of the run so far.

        A write that fails is logged when its cause is new, and after every request.
        """
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
            self._delete_old(path)
        return path

    def _delete_old(self, newest: Path) -> None:
        """Delete the oldest by name, but never `newest`, whose date may be wrong."""
        others = sorted(
            file
            for file in self._folder.iterdir()
            if _NAME.fullmatch(file.name) and file != newest and file.is_file()
        )
        whole = [file for file in others if file.suffix == ".json"]
        parts = [file for file in others if file.suffix == ".part"]  # of runs that were killed
        for file in [*parts, *whole[: max(0, len(whole) + 1 - MAX_FILES)]]:
            file.unlink(missing_ok=True)


def write_trace(trace: Trace, path: Path) -> None:
    """Write `trace` to `path` atomically. Raises OSError.

    A power cut soon after may leave an empty file: the file is not synced to the disk.
    """
    atomic_write(path, _encode(trace), durable=False)


def _encode(trace: Trace) -> Iterator[bytes]:
    """Return the file in small pieces: encoding all at once would hold the interpreter lock."""
    yield b'{"displayTimeUnit":"ms","traceEvents":[\n'
    for number, events in enumerate(chrome_events(trace.rows(), trace.events())):
        separator = b",\n" if number else b""
        yield separator + b",\n".join(msgspec.json.encode(event) for event in events)
    yield b"\n]}\n"


def chrome_events(
    rows: Sequence[Row], events: Sequence[tuple[int, str]]
) -> Iterator[list[dict[str, object]]]:
    """Yield the trace events in groups: the names first, then one group for each frame and event.

    The main thread's lane holds a slice for each frame, from the thread's wake-up to the result,
    with the stages inside it in sequence, followed by the publication. A stage that ran twice
    (preprocessing, for face and for voice) is one slice. Waiting overlaps with the frame before,
    so it has a lane of its own.
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
    # The outer slice first: of two that begin at once, the first encloses the second.
    drawn = [_make_slice_event("frame", row.woke_ns, end_ns, args), *slices]
    published_ns = end_ns + round(row.stages_us[STAGES[-1]] * 1e3)
    if following is not None:
        published_ns = min(published_ns, following.woke_ns)
    if published_ns > end_ns:
        drawn.append(_make_slice_event(STAGES[-1], end_ns, published_ns))
    if row.woke_ns > row.captured_ns:
        wait = {"name": STAGES[0], "cat": "frame", "id": str(row.number)}
        wait_ends = (("b", row.captured_ns), ("e", row.woke_ns))
        drawn += [{**wait, **_at(phase, t_ns)} for phase, t_ns in wait_ends]
    if row.cause is not None:
        drawn.append(_make_instant_event(f"over budget: {row.cause}", end_ns))
    return [*drawn, {"name": "latency", **_at("C", end_ns), "args": {"ms": latency_ms}}]


def _make_slice_event(
    name: str, begin_ns: int, end_ns: int, args: dict[str, object] | None = None
) -> dict[str, object]:
    # Rounding both ends, not the length, keeps adjacent slices adjacent in the file.
    took_us = max(0, end_ns // 1000 - begin_ns // 1000)
    return {"name": name, **_at("X", begin_ns), "dur": took_us, "args": args or {}}


def _make_instant_event(name: str, t_ns: int) -> dict[str, object]:
    return {"name": name, **_at("i", t_ns), "s": "p"}


def _at(phase: str, t_ns: int) -> dict[str, object]:
    return {"ph": phase, "ts": t_ns // 1000, "pid": _PID, "tid": _MAIN}
