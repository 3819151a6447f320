"""Delivery of the records: in order, each until the broker has acknowledged it.

In: the spool, and what happens to the connection. Out: records to send. A record is lost here only
where the broker itself refuses it; then it is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .spool import Record, Spool

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 20

Send = Callable[[Record], None]


class Delivery:
    """The records in flight on the present connection."""

    def __init__(self, spool: Spool) -> None:
        self.refused = 0
        """Records that the broker refused, and that were given up."""
        self._spool = spool
        self._in_flight: dict[str, int] = {}
        """Ids in the order of sending, with the time since boot."""
        self._window = 0
        self._max_bytes: int | None = None
        self._one_by_one = False

    def begin(self, receive_max: int, max_bytes: int | None) -> None:
        """A connection is there. The broker takes `receive_max` messages at once, of `max_bytes`
        each, None for no limit."""
        self._in_flight.clear()
        self._window = 1 if self._one_by_one else max(1, min(MAX_IN_FLIGHT, receive_max))
        self._max_bytes = max_bytes

    def end(self, refused: str = "") -> None:
        """The connection is gone. `refused`: the broker ended it because of a message, for this
        reason. To find out which, they are sent one by one next time; alone it is given up."""
        if refused and len(self._in_flight) == 1 and self._window == 1:
            self._give_up(next(iter(self._in_flight)), refused)
            self._one_by_one = False
        elif refused:
            self._one_by_one = True
        self._in_flight.clear()
        self._window = 0

    def fill(self, send: Send, now_ns: int, overhead: int = 0) -> None:
        """Send what fits. `overhead`: bytes of a message beside its payload."""
        free = self._window - len(self._in_flight)
        if free < (self._window + 1) // 2 or not self._spool.stored:
            return
        for record in self._spool.read(free, self._in_flight):
            if self._max_bytes is not None and len(record.payload) + overhead > self._max_bytes:
                self._give_up(record.id, f"larger than the broker's {self._max_bytes} bytes")
                continue
            self._in_flight[record.id] = now_ns
            send(record)

    def acknowledge(self, id: str, refused: str = "") -> None:  # noqa: A002  the key's name
        """The broker has answered; `refused`: with this reason."""
        if self._in_flight.pop(id, None) is None:
            return
        if refused:
            self._give_up(id, refused)
            return
        self._one_by_one = False
        self._spool.remove(id)

    def find_oldest_ns(self) -> int | None:
        """Return when the oldest record in flight was sent; None without any."""
        return next(iter(self._in_flight.values()), None)

    def _give_up(self, id: str, reason: str) -> None:  # noqa: A002  the key's name
        self.refused += 1
        self._spool.remove(id)
        level = logging.WARNING if self.refused == 1 else logging.DEBUG
        log.log(level, "mqtt: the broker refuses record %s, which is lost: %s", id, reason)
