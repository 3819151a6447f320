"""An open display device: ioctl, mmap and the events that it sends."""

from __future__ import annotations

import errno
import mmap
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import Structure

from ...ioctl import call_driver

_NOT_MASTER = (errno.EACCES, errno.EPERM)


class KmsError(Exception):
    """The display cannot be used just now; the message says why in a few words."""


class Handle:
    """The file of /dev/dri/cardN. Who opens it first, of all programs, may set modes."""

    def __init__(self, path: str) -> None:
        """Raises KmsError when it cannot be opened."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise KmsError(f"no permission for {path}: join group video") from error
        except OSError as error:
            raise KmsError(f"{path} cannot be opened: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def ioctl(self, number: int, argument: Structure) -> None:
        """Raises OSError; the structure is changed in place."""
        call_driver(self._fd, number, argument)

    def map(self, length: int, offset: int) -> mmap.mmap:
        """The memory of a buffer. It keeps the device open until it is closed itself."""
        return mmap.mmap(self._fd, length, offset=offset)

    def read_events(self, timeout_s: float) -> bytes:
        """What the device has to say, b"" when it says nothing in that time. Raises OSError."""
        if not self._poll.poll(timeout_s * 1000):
            return b""
        return os.read(self._fd, 4096)

    def close(self) -> None:
        """Gives the display back: the kernel shows its console again. Once."""
        os.close(self._fd)


@contextmanager
def explain_errors(handle: Handle) -> Iterator[None]:
    """Turns an OSError of the device into a KmsError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_MASTER:
            raise KmsError(f"another program has {handle.path}") from error
        raise KmsError(f"{handle.path} failed: {error.strerror or error}") from error
