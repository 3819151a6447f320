"""Writes the newest estimate to a serial port at a limited rate, as JSON or a binary frame.

Names of labels other than those of the bundle that ships come before the first estimate and again
every few seconds.

The port may be missing, be unplugged or block at any moment. After a failure it is closed
immediately, because an adapter whose port is still open comes back under another name. It is opened
again by its path after 0.5 s, then 1, 2, 4 and 5 s.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...engines.bundles import LABELS
from .. import config
from ..faults import FaultLog
from ..messages import Estimate
from .serial_format import ENCODERS, ENDS, NAME_ENCODERS

if TYPE_CHECKING:
    from serial import Serial

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 5.0
WRITE_TIMEOUT_S = 2.0
"""Longer than any line takes at 1200 baud. A longer write is a fault, but the port stays open: it
may recover."""
SETTLE_S = 1.0
"""A fault ends after this time without an error: some devices open, accept data and fail again."""
STALE_S = 2.0
"""An older estimate is not sent."""
YIELD_S = 0.01
CLOSE_TIMEOUT_S = 2.0
NAMES_EVERY_S = 5.0
NAMES_SHARE = 0.25
"""The names take at most this share of the time; on a slow line they come less often."""
BITS_PER_BYTE = 10
"""A start bit, eight data bits, a stop bit."""
PORT_ERRORS = (OSError, ValueError, termios.error)
"""The errors of pyserial and of the system for a port that does not work."""
REASONS = {
    errno.ENOENT: "no such device",
    errno.EIO: "no such device",
    errno.EAGAIN: "another program has it open",
    errno.ENOTTY: "not a serial port",
    errno.EACCES: "no permission: join group dialout",
}


class SerialSink:
    """Writes the newest estimate from a thread of its own."""

    def __init__(self, port: str, settings: config.Serial) -> None:
        """`port` is best a stable name, such as one in /dev/serial/by-id. The sink waits for a
        missing one. Raises ValueError without pyserial, or for a path that can be no port."""
        check_port(port)
        self.failure: Exception | None = None
        """The programming error that ended the thread."""
        self._faults = FaultLog(logger, f"serial {port} is back")
        self._open = load_pyserial()
        self._port = port
        self._settings = settings
        self._end = ENDS[settings.format]
        self._encode = ENCODERS[settings.format]
        self._names: tuple[str, ...] = LABELS
        """The labels that the line's reader knows."""
        self._names_due_s = 0.0
        self._newest: tuple[float, Estimate] | None = None
        """The time of its publication in seconds, and the estimate."""
        self._fresh = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._delay_s = FIRST_DELAY_S
        self._works_since_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="serial", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """The reason why nothing is sent, in one line; "" for none."""
        return self._faults.fault

    def publish(self, estimate: Estimate) -> None:
        """Store the newest estimate and wake the thread. Raises the error that ended it."""
        if self.failure is not None:
            raise self.failure
        self._newest = time.monotonic(), estimate
        if not self._closed:
            os.eventfd_write(self._fresh, 1)

    def close(self) -> None:
        """Discard what has not been sent. Takes `CLOSE_TIMEOUT_S` at most."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._stopping, 1)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            # Its system call ends with the process.
            logger.warning("serial %s does not answer and is left open", self._port)
            return
        os.close(self._fresh)
        os.close(self._stopping)

    def __enter__(self) -> SerialSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while True:
                try:
                    with self._opened() as port:
                        self._send(port)
                except PORT_ERRORS as error:
                    self._set_fault(f"serial {self._port}: {explain_error(error)}")
                self._wait(None, timeout_s=self._delay_s)
                self._delay_s = min(2 * self._delay_s, MAX_DELAY_S)
        except _Stopped:
            pass
        except Exception as error:  # noqa: BLE001  raised by `publish` and the monitor
            self.failure = error

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the port, which must be a device. No file is created."""
        if not stat.S_ISCHR(Path(self._port).stat().st_mode):
            raise OSError(errno.ENOTTY, "")
        port = self._open(self._port, self._settings.baud, exclusive=True)
        try:
            yield port.fileno()
        finally:
            # Otherwise close waits half a minute for the rest to be sent.
            with suppress(*PORT_ERRORS):
                port.reset_output_buffer()
            with suppress(*PORT_ERRORS):
                port.close()

    def _send(self, port: int) -> None:
        """Send until the port fails (one of `PORT_ERRORS`) or the sink is closed (_Stopped)."""
        self._works_since_s = time.monotonic()
        self._write(port, self._end)  # ends a line that was cut off before
        self._names = LABELS
        while True:
            ready = self._wait(port, fresh=True, timeout_s=SETTLE_S if self.fault else None)
            began_s = time.monotonic()
            if began_s >= self._works_since_s + SETTLE_S:
                self._delay_s = FIRST_DELAY_S
                self._set_fault("")
            newest = self._newest
            if not ready or newest is None:
                continue
            os.eventfd_read(self._fresh)
            published_s, estimate = newest
            if began_s - published_s > STALE_S:
                continue
            data = self._encode_names(estimate.labels, began_s) + self._encode(estimate)
            self._write(port, data)
            # No more than a slow line can carry, or the system would queue it.
            busy_s = self._busy_s(data)
            due_s = began_s + max(1 / self._settings.max_hz, busy_s)
            self._wait(port, timeout_s=max(0.0, due_s - time.monotonic()))

    def _encode_names(self, labels: tuple[str, ...], now_s: float) -> bytes:
        """Return the names of the labels if they are due, else nothing."""
        if labels == LABELS or (labels == self._names and now_s < self._names_due_s):
            return b""
        data = NAME_ENCODERS[self._settings.format](labels)
        self._names = labels
        self._names_due_s = now_s + max(NAMES_EVERY_S, self._busy_s(data) / NAMES_SHARE)
        return data

    def _busy_s(self, data: bytes) -> float:
        return len(data) * BITS_PER_BYTE / self._settings.baud

    def _write(self, port: int, data: bytes) -> None:
        """Write all of `data`. Not by pyserial, which keeps a core busy while a line blocks."""
        while data:
            if not self._wait(port, writable=True, timeout_s=WRITE_TIMEOUT_S):
                self._set_fault(f"serial {self._port}: the receiver accepts no data")
                self._wait(port, writable=True)
                self._works_since_s = time.monotonic()
                termios.tcflush(port, termios.TCOFLUSH)  # the queue is old
                data = self._end
            try:
                data = data[os.write(port, data) :]
            except BlockingIOError:  # another program is writing to it
                self._wait(port, timeout_s=YIELD_S)

    def _set_fault(self, fault: str) -> None:
        self._faults.log_transition(fault)

    def _wait(
        self,
        port: int | None,
        *,
        writable: bool = False,
        fresh: bool = False,
        timeout_s: float | None = None,
    ) -> bool:
        """Wait until the port is `writable` or an estimate is `fresh`; False after the timeout.

        Raises _Stopped when the sink is closed, and OSError when the port has failed."""
        poll = select.poll()
        poll.register(self._stopping, select.POLLIN)
        if port is not None:
            poll.register(port, select.POLLOUT if writable else 0)
        if fresh:
            poll.register(self._fresh, select.POLLIN)
        ready = dict(poll.poll(None if timeout_s is None else timeout_s * 1e3))
        if self._stopping in ready:
            raise _Stopped
        if port is not None and ready.get(port, 0) & ~select.POLLOUT:
            raise OSError(errno.EIO, "")
        return bool(ready)


class _Stopped(Exception):
    """The sink was closed."""


def check_port(port: str) -> None:
    """Raise ValueError for a path that can be no port. A missing one may still appear."""
    path = Path(port)
    if not path.is_absolute() or (path.exists() and not path.is_char_device()):
        raise ValueError(f"serial port {port!r} is not a device such as /dev/ttyUSB0")


def load_pyserial() -> type[Serial]:
    """Return pyserial's class for ports. Raises ValueError when it is not installed."""
    try:
        from serial import Serial
    except ImportError as error:  # also for the other package that is called serial
        raise ValueError(
            'a serial port needs pyserial: pip install "emotion-edge[serial]"'
        ) from error
    return Serial


def explain_error(error: Exception) -> str:
    """Describe one of `PORT_ERRORS` in a few words."""
    code = error.args[0] if error.args else None
    if isinstance(code, int):
        return REASONS.get(code) or os.strerror(code).lower()
    return str(error) or type(error).__name__
