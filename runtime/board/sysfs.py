"""Sensor files of /sys and /proc: paths in, numbers within given limits out.

A driver can remove a file, fail to read it or fill it with nonsense at any moment. All of that is
None here, and nothing raises. Files are read unbuffered: Python's buffered readers turn EAGAIN,
which an Orin returns for a part of the chip that is off, into a TypeError.
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
"""At two readings a second this is half a minute. A search costs as much as a few readings."""
NAME = re.compile(r"[ -~]{1,128}")
PSI = re.compile(rb"some avg10=(\d{1,3}\.\d+) .*?total=(\d{1,20})\b")


def read_bytes(path: str, max_bytes: int = 4096) -> bytes | None:
    """Return the start of the file; None if it cannot be read now.

    One read returns all of a sensor, at most a page. It takes as long as the driver does.
    """
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(file, max_bytes)
        finally:
            os.close(file)
    return None


def read_text(path: str, max_bytes: int = 4096) -> str | None:
    """Return the text without surrounding blanks and NULs; None without a file or text."""
    data = read_bytes(path, max_bytes)
    with suppress(UnicodeDecodeError):
        return (data or b"").decode().strip().strip("\0") or None
    return None


def read_name(path: str) -> str | None:
    """Return the name of a sensor, a mode or a machine; None if it is not a name."""
    text = read_text(path)
    return text if text and NAME.fullmatch(text) else None


def read_number(path: str, low: int, high: int) -> int | None:
    """Return the whole number; None without one or outside low..high."""
    data = read_bytes(path)
    if data is None:
        return None
    with suppress(ValueError):
        number = int(data)
        if low <= number <= high:
            return number
    return None


def read_mhz(path: str, units_per_mhz: int) -> float | None:
    """Return the clock rate, up to 10 GHz; cpufreq has kHz, devfreq Hz."""
    number = read_number(path, 0, 10_000 * units_per_mhz)
    return None if number is None else number / units_per_mhz


def list_names(folder: str) -> list[str]:
    """List the names in the folder, sorted; none if it cannot be read."""
    with suppress(OSError):
        return sorted(path.name for path in Path(folder).iterdir())
    return []


def list_numbered(folder: str, prefix: str) -> list[str]:
    """List the paths of `prefix` and a number, in the order of the numbers."""
    numbered = re.compile(f"{prefix}([0-9]+)")
    matches = [match for match in map(numbered.fullmatch, list_names(folder)) if match]
    return [f"{folder}/{match[0]}" for match in sorted(matches, key=lambda match: int(match[1]))]


def list_cpu_files(root: str, name: str) -> list[str]:
    """List `name` in every core's folder; the folder of an offline core may lack it."""
    return [f"{core}/{name}" for core in list_numbered(f"{root}/sys/devices/system/cpu", "cpu")]


def find_hwmon(root: str) -> list[tuple[str, str]]:
    """List (name, folder) of every hardware monitor.

    The folder is the device's own, not the link in /sys/class. A driver that is loaded again may
    give the link's number to another device: then this path is gone instead of wrong.
    """
    folders = list_numbered(f"{root}/sys/class/hwmon", "hwmon")
    named = ((read_name(f"{folder}/name"), folder) for folder in folders)
    return [(name, os.path.realpath(folder)) for name, folder in named if name]


class CachedDiscovery(Generic[T]):
    """The result of `find`, searched again after a failure.

    Drivers appear late, and come back under another number. A search costs more than a reading, so
    at least `READS_PER_DISCOVERY` readings separate two searches.
    """

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._result = find()
        self._reads = 0
        self.failed = False
        """Set by the reader when a found sensor did not respond, or when none was found."""

    def get(self) -> T:
        """Return the result. Called once for each reading."""
        self._reads += 1
        if self.failed and self._reads > READS_PER_DISCOVERY:
            self._result = self._find()
            self._reads = 0
            self.failed = False
        return self._result


class Pressure:
    """Pressure-stall information: the share of time in which tasks waited for a resource.

    File format and meaning: Documentation/accounting/psi.rst of the Linux kernel.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._last: tuple[int, int] | None = None

    def read(self) -> float | None:
        """Return the share 0..1 of the time since the last reading in which a task waited.

        The first reading, and one whose counter decreased, is the kernel's mean of 10 s. None if
        the kernel has no counter, or an impossible one.
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
        # The counter and the clock are not read at the same instant: slightly over 1 is 1.
        return min(share, 1.0) if share < 2 else None
