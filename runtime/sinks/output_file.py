"""A file, pipe or standard output that takes whole lines, and never harms another file.

In: a target, and what the first line of its own format looks like. Out: lines that are appended, or
a fault and the number of estimates that were lost.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..config import ConfigError
from ..faults import FaultLog
from ..messages import OutputError, SinkClosed

log = logging.getLogger(__name__)

REPLAY_WAIT_MS = 10_000
"""How long a replay waits for a reader that stalls, once. A live run does not wait."""
_FIRST_LINE_BYTES = 1 << 16
_RETRY_S = 0.02
_MEMORY_DEVICES = 1
"""Major number of /dev/null and its like, which several outputs may share."""

FileId = tuple[object, ...]
"""Equal for two names of one file."""


class OutputFile:
    """Appends lines immediately and never leaves a part of one in the middle.

    While a disk is full or a reader stalls, estimates are lost instead of delaying the pipeline.
    """

    def __init__(
        self,
        target: str | Path,
        is_own: Callable[[bytes], bool],
        *,
        wait_ms: int = 0,
        ends_run: bool = True,
    ) -> None:
        """Open nothing yet. `target` is a file or "-" for standard output. `is_own` decides by the
        first line whether a file that exists may be appended to. `wait_ms`: see `REPLAY_WAIT_MS`.
        `ends_run`: a reader that closes its pipe ends the run."""
        self.name = "stdout" if target == "-" else str(target)
        self.lost = 0
        """Estimates that could not be written."""
        self.unread = 0
        """Estimates for which the pipe had no reader."""
        self.loss = ""
        """After `close`: what was lost and why, in one line; "" for nothing."""
        self._path = None if target == "-" else Path(target)
        self._is_own = is_own
        self._wait_ms = wait_ms
        self._ends_run = ends_run
        self._source: FileId | None = None
        self._file = -1
        self._closed = False
        self._pieces = select.PIPE_BUF
        """Bytes that a pipe takes without blocking once it polls as writable."""
        self._poll = select.poll()
        self._rest = b""
        """The unwritten rest of a line, which precedes the next one."""
        self._rest_estimates = 0
        self._cause = ""
        self._faults = FaultLog(log, f"{self.name} can be written again")

    @property
    def fault(self) -> str:
        """As `Faultable` has it."""
        return self._faults.fault

    def identify(self) -> FileId | None:
        """Return the identity of the target, which need not exist; None if it may be shared."""
        return identify_stdout() if self._path is None else identify(self._path)

    def check(self, source: FileId | None) -> None:
        """Refuse a target that cannot or must not be written, and change nothing. `source` is the
        file that the run reads. Raises ConfigError."""
        self._source = source
        if source is not None and self.identify() == source:
            raise ConfigError(f"output {self.name!r} is the source itself")
        if self._path is None:
            if sys.__stdout__ is None:
                raise ConfigError("standard output is closed")
            return
        refusal = f"cannot write {self.name!r}"
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            folder = self._path.resolve().parent
            if not folder.is_dir():
                raise ConfigError(f"{refusal}: there is no folder {str(folder)!r}") from None
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ConfigError(f"{refusal}: no permission in {str(folder)!r}") from None
            return
        except (OSError, ValueError) as error:
            raise ConfigError(f"{refusal}: {_explain(error)}") from error
        if stat.S_ISDIR(mode):
            raise ConfigError(f"{refusal}: it is a folder")
        if not os.access(self._path, os.W_OK):
            raise ConfigError(f"{refusal}: no permission")
        if stat.S_ISREG(mode):
            try:
                with self._path.open("rb") as file:
                    self._refuse_other_content(file.read(_FIRST_LINE_BYTES))
            except OSError as error:
                raise ConfigError(f"{refusal}: it cannot be read: {_explain(error)}") from error

    def open(self, header: bytes = b"") -> None:
        """Open the target, and write `header` where it is empty. Raises ConfigError, OutputError
        and SinkClosed."""
        try:
            if self._path is None:
                sys.stdout.flush()  # what was printed before comes first
                self._use(os.dup(1))
                is_empty = True
            elif self._path.is_fifo():
                self._open_fifo(self._wait_ms)
                is_empty = True
            else:
                is_empty = self._open_named(self._path)
        except OSError as error:
            if not (error.errno == errno.ENXIO and not self._wait_ms):
                raise OutputError(f"cannot write {self.name!r}: {_explain(error)}") from error
            self._note(error)
            return
        self.write(header if is_empty else b"", 0)

    def write(self, line: bytes, estimates: int = 1) -> None:
        """Append a line, which reports on so many estimates. Raises SinkClosed."""
        if self._closed:
            return
        try:
            if self._file < 0:
                self._open_fifo(0)
            self._write_rest()
        except OSError as error:
            self._count(error, estimates)
            self._note(error)
            return
        self._rest, self._rest_estimates = line, estimates
        try:
            self._write_rest()
        except OSError as error:
            self._note(error)
        else:
            self._faults.log_transition("", logging.INFO)

    def close(self) -> None:
        """Write what is left, if that is possible now, and close. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._write_rest()
        except OSError as error:
            self._count(error, self._rest_estimates)
            self._cause = self._cause or _explain(error)
        try:
            if self._file >= 0:
                os.close(self._file)
        except OSError as error:  # some file systems report a full disk only now
            self.lost += 1
            self._cause = self._cause or _explain(error)
        self._file = -1
        if self.lost:
            self.loss = f"cannot write {self.name}: {self._cause}; {self.lost} estimates are lost"
        if self.unread:
            log.warning("%s had no reader for %d estimates", self.name, self.unread)

    def _open_named(self, path: Path) -> bool:
        """Open a file or a device, and return whether it is empty. What `check` has seen is checked
        again in the open file, because another may have taken its name since."""
        is_file = path.is_file() or not path.exists()
        access = os.O_RDWR | os.O_CREAT | os.O_APPEND if is_file else os.O_WRONLY | os.O_NOCTTY
        file = os.open(path, access | os.O_CLOEXEC, 0o644)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                self._use(file)
                return True
            if (status.st_dev, status.st_ino) == self._source:
                raise ConfigError(f"output {self.name!r} is the source itself")
            self._refuse_other_content(os.pread(file, _FIRST_LINE_BYTES, 0))
            if status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n":
                self._rest = b"\n"  # a power cut has left a part of a line
        except BaseException:
            os.close(file)
            raise
        self._use(file)
        self._pieces = sys.maxsize
        return not status.st_size

    def _open_fifo(self, wait_ms: int) -> None:
        """Open a FIFO, which needs a reader: wait for it for a while."""
        assert self._path is not None
        end_s = time.monotonic() + wait_ms / 1e3
        while True:
            try:
                self._use(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                return
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() >= end_s:
                    raise
            time.sleep(_RETRY_S)

    def _use(self, file: int) -> None:
        self._file = file
        self._poll.register(file, select.POLLOUT)

    def _refuse_other_content(self, head: bytes) -> None:
        if head and not self._is_own(head.split(b"\n", 1)[0]):
            raise ConfigError(
                f"output {self.name!r} exists and is not of this kind: it is not overwritten"
            )

    def _write_rest(self) -> None:
        while self._rest:
            if not self._poll.poll(0 if self.fault else self._wait_ms):
                raise TimeoutError(errno.ETIMEDOUT, "its reader is not reading")
            written = os.write(self._file, self._rest[: self._pieces])
            self._rest = self._rest[written:]

    def _count(self, error: OSError, estimates: int) -> None:
        if error.errno in _NO_READER:
            self.unread += estimates
        else:
            self.lost += estimates

    def _note(self, error: OSError) -> None:
        """Handle a failed write: log the beginning of the fault. Raises SinkClosed."""
        if error.errno in _NO_READER:
            self.unread += self._rest_estimates if self._rest else 0
            self._rest = b""  # the next reader begins with a whole line
            if self._ends_run and error.errno == errno.EPIPE:
                self.unread = 0  # the reader wanted no more
                self.close()
                raise SinkClosed(f"the reader of {self.name} has closed it") from error
        else:
            self._cause = self._cause or _explain(error)
        fault = f"cannot write {self.name}: {_explain(error)}; estimates are lost"
        self._faults.log_transition(fault, logging.ERROR)


_NO_READER = (errno.EPIPE, errno.ENXIO)
_REASONS = {errno.EPIPE: "its reader has closed it", errno.ENXIO: "it has no reader"}


def identify(path: Path) -> FileId | None:
    """Return the identity of a file by device and inode, or by its path where there is none yet.
    None for /dev/null and its like."""
    try:
        return _identify_status(path.stat())
    except (OSError, ValueError, RuntimeError):
        return (os.path.realpath(path, strict=False),)


def find_source(name: str) -> FileId | None:
    """Return the identity of the file or FIFO that a source of this name reads; None for another
    kind of source, and for one that does not exist."""
    from ..capture import find_kind, find_path

    if find_kind(name) not in ("file", "pipe"):
        return None
    try:
        return _identify_status(find_path(name).stat())
    except (OSError, ValueError):
        return None


def identify_stdout() -> FileId | None:
    """Return the identity of standard output."""
    try:
        return _identify_status(os.fstat(1))
    except OSError:
        return None


def _identify_status(status: os.stat_result) -> FileId | None:
    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _MEMORY_DEVICES:
        return None
    return (status.st_dev, status.st_ino)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return str(error)
