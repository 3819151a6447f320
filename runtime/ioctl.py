"""Device control calls to a kernel driver."""

from __future__ import annotations

import fcntl
from ctypes import Structure


def call_driver(file: int, number: int, argument: Structure | bytes) -> None:
    """Call ioctl(2), and repeat it after a signal. Changes a structure in place. Raises OSError."""
    while True:
        try:
            fcntl.ioctl(file, number, argument)
        except InterruptedError:
            continue
        return
