"""The notify protocol of systemd: progress in, datagrams out.

The protocol is that of sd_notify(3). Outside a systemd service, without NOTIFY_SOCKET in the
environment, nothing is opened and every call does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from ...engines.plain_text import make_plain
from ..clock import Clock
from ..faults import FaultLog

logger = logging.getLogger(__name__)


PINGS = 10
"""Within the time that systemd allows. A ping may stand for a frame as old as the last ping, so a
hang is detected later by that much."""


class Watchdog:
    """Sends readiness, status and pings; pings only while frames make progress."""

    interval_ns: int | None
    """Time between pings; None when systemd expects none."""

    def __init__(self, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._faults = FaultLog(logger, clock=clock)
        self._progress = False
        self._last_ping_ns: int | None = None
        self.interval_ns = _ping_interval_ns(environment) if self._address else None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A full queue must not delay the program.
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """Report the end of the start: the engines are verified and warm."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def status(self, text: str) -> None:
        """Set the line of `systemctl status`."""
        self._send(f"STATUS={text}")

    def extend_timeout(self, text: str, more_s: int) -> None:
        """Ask systemd to wait for the start for `more_s` from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={more_s * 1_000_000}", f"STATUS={text}")

    def stopping(self) -> None:
        """Report the begin of the stop."""
        self._send("STOPPING=1")

    def progress(self) -> None:
        """Note a processed frame. Called for each, from any thread."""
        self._progress = True

    def tick(self) -> bool:
        """Ping if due and after progress since the last ping. Return whether it did."""
        now_ns = self._clock.now_ns()
        if self.interval_ns is None or not self._progress:
            return False
        if self._last_ping_ns is not None and now_ns - self._last_ping_ns < self.interval_ns:
            return False
        # Cleared before sending: a frame that arrives meanwhile counts for the next ping.
        self._progress = False
        if not self._send("WATCHDOG=1"):
            self._progress = True
            return False
        self._last_ping_ns = now_ns
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        # A leading @ is the null byte of Linux' abstract names.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # One variable per line: a line feed inside a value would start another.
        message = "\n".join(map(make_plain, lines))
        try:
            self._socket.sendto(message.encode(), address)
        except OSError as error:
            self._faults.log_transition(f"cannot reach systemd at {self._address}: {error}")
            return False
        self._faults.log_transition("")
        return True


def _ping_interval_ns(environment: Mapping[str, str]) -> int | None:
    """Return a fraction of WATCHDOG_USEC, unless WATCHDOG_PID is another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) * 1000 // PINGS if text.isdecimal() and int(text) > 0 else None
