"""The newest pictures' times, in memory that does not grow.

In: when each picture was captured and what each stage took; what else happened, in words. Out: both
again, for `trace_writer`. It keeps times, counts, and the names of stages and levels: nothing that
was seen, heard or made of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from ..messages import Estimate
from .latency import STAGES, read_stages

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
