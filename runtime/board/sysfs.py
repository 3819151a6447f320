"""Sensors behind files of /sys and /proc: paths in, numbers within given limits out.

A driver can take a file away, refuse to read it or write nonsense into it at any moment. Here all
of that is None, and nothing raises. Reads go straight to the system: Python's buffered ones turn
EAGAIN, with which an Orin answers for a part of the chip that is switched off, into a TypeError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from ..clock import Clock

T = TypeVar("T")

READS_PER_DISCOVERY = 60
"""A search costs as much as a few readings; at two readings a second this is half a minute."""
NAME = re.compile(r"[ -~]{1,128}")
PSI = re.compile(rb"some avg10=(\d{1,3}\.\d+) .*?total=(\d{1,20})\b")


def read_bytes(path: str, max_bytes: int = 4096) -> bytes | None:
    """The start of the file; None when it cannot be read just now.

    One read brings all of a sensor, which is at most a page. It takes as long as the driver does.
    """
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(file, max_bytes)
        finally:
            os.close(file)
    return None


def read_text(path: str, max_bytes: int = 4096) -> str | None:
    """The file's text without blanks and NULs around it; None for no file, no text, none of it."""
    data = read_bytes(path, max_bytes)
    with suppress(UnicodeDecodeError):
        return (data or b"").decode().strip().strip("\0") or None
    return None


def read_name(path: str) -> str | None:
    """What the file calls a sensor, a mode or a machine; None when it is no name."""
    text = read_text(path)
    return text if text and NAME.fullmatch(text) else None


def read_number(path: str, low: int, high: int) -> int | None:
    """The file's whole number; None when there is none or it is outside low..high."""
    data = read_bytes(path)
    if data is None:
        return None
    with suppress(ValueError):
        number = int(data)
        if low <= number <= high:
            return number
    return None


def read_mhz(path: str, units_per_mhz: int) -> float | None:
    """The file's clock rate, up to 10 GHz; cpufreq writes kHz, devfreq Hz."""
    number = read_number(path, 0, 10_000 * units_per_mhz)
    return None if number is None else number / units_per_mhz


def list_names(folder: str) -> list[str]:
    """What is in the folder, sorted; nothing when it cannot be looked into."""
    with suppress(OSError):
        return sorted(path.name for path in Path(folder).iterdir())
    return []


def list_numbered(folder: str, prefix: str) -> list[str]:
    """Paths of `prefix` and a number in the folder, in the order of the numbers."""
    numbered = re.compile(f"{prefix}([0-9]+)")
    found = [match for match in map(numbered.fullmatch, list_names(folder)) if match]
    return [f"{folder}/{match[0]}" for match in sorted(found, key=lambda match: int(match[1]))]


def list_cpu_files(root: str, name: str) -> list[str]:
    """`name` below every core's folder; a core that is offline has a folder and may lack it."""
    return [f"{core}/{name}" for core in list_numbered(f"{root}/sys/devices/system/cpu", "cpu")]


def find_hwmon(root: str) -> list[tuple[str, str]]:
    """(name, folder) of every hardware monitor.

    The folder is the device's own, not the link below /sys/class: the link's number may be given
    to another device when a driver is loaded again, and then this path is gone instead of wrong.
    """
    folders = list_numbered(f"{root}/sys/class/hwmon", "hwmon")
    named = ((read_name(f"{folder}/name"), folder) for folder in folders)
    return [(name, os.path.realpath(folder)) for name, folder in named if name]


class CachedDiscovery(Generic[T]):
    """What `find` finds, looked for again when something of it has failed.

    Drivers appear late, and come back under another number. Looking at every reading would cost
    more than reading, so between two searches there are `READS_PER_DISCOVERY` readings.
    """

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._found = find()
        self._reads = 0
        self.failed = False
        """To be set by the reader: something that was found did not answer, or nothing was."""

    def get(self) -> T:
        """Once for each reading."""
        self._reads += 1
        if self.failed and self._reads > READS_PER_DISCOVERY:
            self._found = self._find()
            self._reads = 0
            self.failed = False
        return self._found


class Pressure:
    """Pressure-stall information: how much of the time tasks waited for something.

    File format and meaning: Documentation/accounting/psi.rst of the Linux kernel.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._last: tuple[int, int] | None = None

    def read(self) -> float | None:
        """Share 0..1 of the time since the last reading in which some task waited.

        The first reading has none before it and gives the kernel's mean of 10 s, as does one
        whose counter went back. None where the kernel does not count, or counts nonsense.
        """
        data = read_bytes(self._path)
        now_ns = self._clock.now_ns()
        match = PSI.match(data or b"")
        last, self._last = self._last, None
        if match is None:
            return None
        total_us = int(match[2])
        self._last = (now_ns, total_us)
        if last is None or now_ns <= last[0] or total_us < last[1]:
            share = float(match[1]) / 100
        else:
            share = (total_us - last[1]) * 1e3 / (now_ns - last[0])
        # The counter and the clock are not read in the same instant: a little over 1 is 1.
        return min(share, 1.0) if share < 2 else None
