"""The way to the broker: one connection after the other, in a thread of its own.

In: messages. Out: the events of the connections, whether there is one, and the fault while there is
none. A failed connection is tried again after 1 s, then 2, 4 … 60, shortened at random by up to a
half: thousands of devices do not come back in the same moment.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time

from ...faults import FaultLog
from ...service import HELPER_PRIORITY, realtime_priority, run_in_background
from .access import Access
from .address import Address
from .connection import Closed, Connected, Connection, Event, Mailbox, Message

log = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
MAX_DELAY_S = 60.0
SETTLE_S = 10.0
"""A connection that lasts for so long makes the next delay the first one again."""
CLOSE_TIMEOUT_S = 2.0


class Link:
    """The link of one device. One thread uses it; any thread may read `fault` and call `wake`."""

    def __init__(
        self, address: Address, device: str, status_topic: str, access: Access, *, realtime: bool
    ) -> None:
        """`realtime`: the thread gets real-time priority. The others are those of `Connection`."""
        self._address = address
        self._device = device
        self._status_topic = status_topic
        self._access = access
        self._realtime = realtime
        self._faults = FaultLog(log, f"mqtt {address} is back")
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._mailbox = Mailbox()
        self.is_trying = True
        """There is a connection, or an attempt goes on."""
        self.is_connected = False
        self._thread = threading.Thread(target=self._run, name="mqtt-connection", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        return self._faults.fault

    @property
    def is_congested(self) -> bool:
        """The broker does not take what it has been sent."""
        return self._mailbox.is_congested

    def send(self, message: Message) -> None:
        """Send a message, if there is a connection. The caller bounds how many wait."""
        if self.is_connected:
            self._mailbox.send(message)

    def take_event(self, timeout_s: float) -> Event | None:
        """Return the next event; None after the time, or `wake`."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(event, Connected):
            self.is_connected = True
            log.info("mqtt %s: connected as %s", self._address, self._device)
            self.note_fault("")
        elif isinstance(event, Closed):
            self.is_connected = False
            self.note_fault(event.reason)
        return event

    def wake(self) -> None:
        """End the wait for an event."""
        self._events.put(None)

    def note_fault(self, reason: str) -> None:
        """Set the fault; "" for none."""
        self._faults.log_transition(f"mqtt {self._address}: {reason}" if reason else "")

    def close(self) -> None:
        """Say goodbye, and end the thread. While it waits for a name server or a handshake, it
        ends with that."""
        self._mailbox.end()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        # One thread for all attempts: a new one would not have its priority at once, and could
        # be preempted while it holds the interpreter lock.
        with realtime_priority(self._realtime, HELPER_PRIORITY) as realtime:
            if not realtime:
                run_in_background()
            delay_s = FIRST_DELAY_S
            while self._mailbox.closing_s is None:
                self.is_trying = True
                connection = self._make_connection()
                connection.run()
                self.is_trying = False
                connected_s = connection.connected_s
                if connected_s is not None and time.monotonic() - connected_s >= SETTLE_S:
                    delay_s = FIRST_DELAY_S
                self._mailbox.wait(delay_s * random.uniform(0.5, 1.0))
                delay_s = min(2 * delay_s, MAX_DELAY_S)
        self._mailbox.close()

    def _make_connection(self) -> Connection:
        return Connection(
            self._address,
            self._device,
            self._status_topic,
            self._access,
            self._mailbox,
            self._events.put,
        )
