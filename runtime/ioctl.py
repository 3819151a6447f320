"""Calls to a driver."""

from __future__ import annotations

import fcntl
from ctypes import Structure


def call_driver(file: int, number: int, argument: Structure | bytes) -> None:
    """ioctl(2), again after a signal. Raises OSError; a structure is changed in place."""
    while True:
        try:
            fcntl.ioctl(file, number, argument)
        except InterruptedError:
            continue
        return
