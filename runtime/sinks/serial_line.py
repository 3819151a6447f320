"""Estimates in, lines or frames on a serial port out: the newest, so many a second at most.

The port may be missing, be unplugged or stand still at any moment. It is closed at once, because an
adapter whose port is still open comes back under another name, and opened again by its path, after
0.5 s, then 1, 2, 4, 5.
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

from .. import config
from ..faults import FaultLog
from ..messages import Estimate
from .serial_format import ENCODERS, ENDS

if TYPE_CHECKING:
    from serial import Serial

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 5.0
WRITE_TIMEOUT_S = 2.0
"""Longer than any line takes at 1200 baud. After it there is trouble, but the port stays open: what
stands still may go on."""
SETTLE_S = 1.0
"""Works for so long before it is called well: some devices open, take something and fail again."""
STALE_S = 2.0
"""An estimate that was published longer ago is not sent: it says nothing about now."""
YIELD_S = 0.01
CLOSE_TIMEOUT_S = 2.0
BITS_PER_BYTE = 10
"""On the line: a start bit, eight of data, a stop bit."""
PORT_ERRORS = (OSError, ValueError, termios.error)
"""What pyserial and the system raise for a port that does not work."""
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
        """`port` is best a name that stays, such as one in /dev/serial/by-id. One that is missing
        is waited for. ValueError of one line without pyserial, or for what can be no port."""
        check_port(port)
        self.failure: Exception | None = None
        """A mistake of ours that has ended the thread."""
        self._faults = FaultLog(logger, f"serial {port} is back")
        self._open = load_pyserial()
        self._port = port
        self._settings = settings
        self._end = ENDS[settings.format]
        self._encode = ENCODERS[settings.format]
        self._newest: tuple[float, Estimate] | None = None
        """And when it was published, s."""
        self._fresh = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._delay_s = FIRST_DELAY_S
        self._works_since_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="serial", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why nothing is sent just now, in one line; "" while all is well."""
        return self._faults.fault

    def publish(self, estimate: Estimate) -> None:
        """Keep it as the newest and wake the thread. Raises what has ended it."""
        if self.failure is not None:
            raise self.failure
        self._newest = time.monotonic(), estimate
        if not self._closed:
            os.eventfd_write(self._fresh, 1)

    def close(self) -> None:
        """What has not gone out by now never does. Takes `CLOSE_TIMEOUT_S` at most."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._stopping, 1)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            # What it waits for inside of the driver ends with the process.
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
        except Exception as error:  # noqa: BLE001  it must not vanish with the thread
            self.failure = error

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The port's file. Nothing else than a device is opened, and nothing is created."""
        if not stat.S_ISCHR(Path(self._port).stat().st_mode):
            raise OSError(errno.ENOTTY, "")
        port = self._open(self._port, self._settings.baud, exclusive=True)
        try:
            yield port.fileno()
        finally:
            # Else the system would wait for half a minute for what is left to go out.
            with suppress(*PORT_ERRORS):
                port.reset_output_buffer()
            with suppress(*PORT_ERRORS):
                port.close()

    def _send(self, port: int) -> None:
        """Until the port fails (one of `PORT_ERRORS`) or the sink is closed (_Stopped)."""
        self._works_since_s = time.monotonic()
        self._write(port, self._end)  # of what was cut off the last time
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
            data = self._encode(estimate)
            self._write(port, data)
            # A slow line must not be given more than it carries: the system would queue it.
            busy_s = len(data) * BITS_PER_BYTE / self._settings.baud
            due_s = began_s + max(1 / self._settings.max_hz, busy_s)
            self._wait(port, timeout_s=max(0.0, due_s - time.monotonic()))

    def _write(self, port: int, data: bytes) -> None:
        """All of it. By the system itself: pyserial keeps a core busy while a line stands still."""
        while data:
            if not self._wait(port, writable=True, timeout_s=WRITE_TIMEOUT_S):
                self._set_fault(f"serial {self._port}: what is sent is not taken")
                self._wait(port, writable=True)
                self._works_since_s = time.monotonic()
                termios.tcflush(port, termios.TCOFLUSH)  # what has waited is old
                data = self._end
            try:
                data = data[os.write(port, data) :]
            except BlockingIOError:  # another program writes to it just now
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
        """Until the port is `writable`, or an estimate is `fresh`: False when the time was over
        before. Always watches for the sink's close and the port's end too."""
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
    """ValueError of one line for what can be no port; one that is missing may still come."""
    path = Path(port)
    if not path.is_absolute() or (path.exists() and not path.is_char_device()):
        raise ValueError(f"serial port {port!r} is no device, such as /dev/ttyUSB0")


def load_pyserial() -> type[Serial]:
    """The class that opens ports; ValueError of one line when it is not installed."""
    try:
        from serial import Serial
    except ImportError as error:  # also for the other package of the index that is called serial
        how = 'pip install "emotion-edge[serial]"'
        raise ValueError(f"a serial port needs pyserial: {how}") from error
    return Serial


def explain_error(error: Exception) -> str:
    """A few words for one of `PORT_ERRORS`."""
    code = error.args[0] if error.args else None
    if isinstance(code, int):
        return REASONS.get(code) or os.strerror(code).lower()
    return str(error) or type(error).__name__
