"""Reads a FIFO or standard input as a file object for PyAV.

A read waits for data, and says so when it takes long. `interrupt` ends it from any thread; so does
Ctrl-C in the main thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import threading
from pathlib import Path

from ..clock import Clock
from ..faults import FaultLog
from ..messages import SourceError
from .source_name import STDIN_PATH

_LOG = logging.getLogger(__name__)

WAIT_NS = 3_000_000_000
"""A longer wait is logged."""
_POLL_MS = 100
_HEAD_BYTES = 16


class PipeReader:
    """The bytes of a pipe, in order. PyAV calls `read` from one thread at a time."""

    def __init__(self, path: Path, name: str, clock: Clock) -> None:
        """`name` is for messages. A FIFO without a writer is no error. Raises SourceError."""
        self._name = name
        self._clock = clock
        self._stop = threading.Event()
        self._file = _open_pipe(path, name)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._waits = FaultLog(_LOG, f"source {name} delivers", clock)
        self._failure: BaseException | None = None
        self.is_waiting = False
        """Whether a read waits for data now."""
        self.head = b""
        """The first bytes."""
        self.num_bytes = 0

    @property
    def fault(self) -> str:
        """That it waits for data, once it has done so for a while; "" else."""
        return self._waits.fault

    @property
    def is_interrupted(self) -> bool:
        return self._stop.is_set()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end and after `interrupt`."""
        try:
            data = self._read(size)
        except BaseException as failure:  # noqa: BLE001 - PyAV would drop a KeyboardInterrupt
            self._failure = failure
            self._stop.set()
            return b""
        if self.num_bytes < _HEAD_BYTES:
            self.head = (self.head + data)[:_HEAD_BYTES]
        self.num_bytes += len(data)
        return data

    def raise_failure(self) -> None:
        """Raise what made a read fail."""
        if self._failure is not None:
            raise self._failure

    def interrupt(self) -> None:
        """End a read that waits, and all later ones."""
        self._stop.set()

    def close(self) -> None:
        """Close the pipe, which no thread reads any more."""
        self._stop.set()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, size: int) -> bytes:
        begin_ns = self._clock.now_ns()
        while not self._stop.is_set():
            self.is_waiting = not self._poll.poll(_POLL_MS)
            if not self.is_waiting:
                self._waits.log_transition("")
                with contextlib.suppress(BlockingIOError):  # another process took the data
                    return os.read(self._file, size)
            elif self._clock.now_ns() - begin_ns >= WAIT_NS:
                self._waits.log_transition(f"source {self._name} waits for data (Ctrl-C ends it)")
        return b""


def _open_pipe(path: Path, name: str) -> int:
    if path == STDIN_PATH:
        try:
            is_terminal = os.isatty(0)
            if sys.__stdin__ is None or stat.S_ISDIR(os.fstat(0).st_mode):
                raise SourceError(f"source {name}: standard input is closed")
            if is_terminal:
                raise SourceError(
                    f"source {name}: standard input is a terminal; pipe a stream into it"
                )
            return os.dup(0)
        except SourceError:
            raise
        except OSError as error:
            raise SourceError(f"source {name}: standard input is closed") from error
    try:
        # Without O_NONBLOCK this would wait for a writer.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"source {name} cannot be read: {error.strerror}") from error
