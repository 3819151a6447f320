"""ioctl(2) for the drivers of cameras and displays."""

from __future__ import annotations

import fcntl
from ctypes import Structure


def call_driver(file: int, number: int, argument: Structure | bytes) -> None:
    """Call ioctl(2), again after a signal. The driver changes a structure in place. Raises
    OSError."""
    while True:
        try:
            fcntl.ioctl(file, number, argument)
        except InterruptedError:
            continue
        return
