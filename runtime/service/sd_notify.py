"""Tells systemd how the program is doing: progress comes in, notify datagrams go out.

The protocol is the one of sd_notify(3). Without NOTIFY_SOCKET in the environment, that is outside
a systemd service, nothing is opened and every call does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from ..clock import Clock
from ..faults import FaultLog

logger = logging.getLogger(__name__)


PINGS = 10
"""In the time that systemd allows. A ping may stand for a frame as old as the last ping, so a hang
is found out that much later."""


class Watchdog:
    """Readiness, status and pings; a ping is sent only when frames have made progress."""

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
            # A full queue must not hold the program up.
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """The start is over: engines are warm and proven."""
        self._send("READY=1", *([f"STATUS={status}"] if status else []))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def extend_timeout(self, text: str, more_s: int) -> None:
        """Still starting, and alive: systemd shall wait `more_s` from now on before it gives up."""
        self._send(f"EXTEND_TIMEOUT_USEC={more_s * 1_000_000}", f"STATUS={text}")

    def stopping(self) -> None:
        """The program has begun to stop."""
        self._send("STOPPING=1")

    def progress(self) -> None:
        """A frame went through. Called for every frame, from any thread."""
        self._progress = True

    def tick(self) -> bool:
        """Ping when it is time and there was progress since the last ping: True when it did."""
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
        # A leading @ stands for the null byte of Linux's abstract names.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # One variable per line: a line feed inside a value would start another.
        message = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            self._socket.sendto(message.encode(), address)
        except OSError as error:
            self._faults.log_transition(f"cannot reach systemd at {self._address}: {error}")
            return False
        self._faults.log_transition("")
        return True


def _ping_interval_ns(environment: Mapping[str, str]) -> int | None:
    """A part of WATCHDOG_USEC, unless it is meant for another process (WATCHDOG_PID)."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) * 1000 // PINGS if text.isdecimal() and int(text) > 0 else None
