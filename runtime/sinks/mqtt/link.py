"""The way to the broker: one connection after the other.

In: messages to send, and the time. Out: the events of the present connection, whether there is one,
and the fault while there is none. A failed connection is tried again after 1 s, then 2, 4 … 60,
shortened at random by up to a half: thousands of devices do not come back in the same moment.
"""

from __future__ import annotations

import logging
import queue
import random
import time

from ...faults import FaultLog
from .access import Access
from .address import Address
from .connection import Closed, Connected, Connection, Event, Message

log = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
SETTLE_S = 10.0
"""A connection that lasts for so long makes the next delay the first one again."""


class Link:
    """The link of one device. One thread uses it; any thread may read `fault` and call `wake`."""

    def __init__(
        self, address: Address, device: str, status_topic: str, access: Access, *, realtime: bool
    ) -> None:
        """The arguments are those of `Connection`."""
        self._address = address
        self._device = device
        self._status_topic = status_topic
        self._access = access
        self._realtime = realtime
        self._faults = FaultLog(log, f"mqtt {address} is back")
        self._events: queue.SimpleQueue[tuple[Connection, Event] | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._connected_s: float | None = None
        self._retry_s = 0.0
        self._delay_s = FIRST_DELAY_S

    @property
    def fault(self) -> str:
        return self._faults.fault

    @property
    def is_trying(self) -> bool:
        """There is a connection, or an attempt goes on."""
        return self._connection is not None

    @property
    def is_connected(self) -> bool:
        return self._connected_s is not None

    @property
    def is_congested(self) -> bool:
        """The broker does not take what it has been sent."""
        return self._connection is not None and self._connection.is_congested

    def poll(self) -> None:
        """Begin an attempt, if one is due."""
        if self._connection is None and time.monotonic() >= self._retry_s:
            self._connection = Connection(
                self._address,
                self._device,
                self._status_topic,
                self._access,
                lambda connection, event: self._events.put((connection, event)),
                realtime=self._realtime,
            )

    def send(self, message: Message) -> None:
        """Send a message, if there is a connection."""
        if self._connection is not None and self.is_connected:
            self._connection.send(message)

    def take_event(self, timeout_s: float) -> Event | None:
        """Return the next event of the present connection; None after the time, or `wake`."""
        try:
            entry = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if entry is None or entry[0] is not self._connection:
            return None
        event = entry[1]
        now_s = time.monotonic()
        if isinstance(event, Connected):
            self._connected_s = now_s
            log.info("mqtt %s: connected as %s", self._address, self._device)
            self._faults.log_transition("")
        elif isinstance(event, Closed):
            if self._connected_s is not None and now_s - self._connected_s >= SETTLE_S:
                self._delay_s = FIRST_DELAY_S
            self._retry_s = now_s + self._delay_s * random.uniform(0.5, 1.0)
            self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)
            self._connection = self._connected_s = None
            self.note_fault(event.reason)
        return event

    def wake(self) -> None:
        """End the wait for an event."""
        self._events.put(None)

    def note_fault(self, reason: str) -> None:
        """Set the fault of a connection that exists; "" for none."""
        self._faults.log_transition(f"mqtt {self._address}: {reason}" if reason else "")

    def close(self) -> None:
        """Say goodbye. Takes two seconds at most."""
        if self._connection is not None:
            self._connection.close()
