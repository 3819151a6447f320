"""The machine's own sensors: load, memory, temperature, and what a benchmark must record of it.

Sensors are found by their name under /sys, never by their number. `sys_root` stands in for / in
tests.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

# hwmon names and thermal zone types that measure the processor.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "x86_pkg_temp", "cpu", "soc")
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """One reading of the sensors; None for what this machine does not tell."""

    cpu_percent: float
    """Load of all cores together since the last reading, 0..100."""
    memory_available_mb: float
    rss_mb: float
    """Resident memory of this process."""
    temperature_c: float | None
    """The hottest of the processor's sensors."""
    cpu_governor: str | None


class Board(Protocol):
    """A machine that can say how it is doing."""

    def read(self) -> BoardStatus:
        """The sensors now. Cheap enough to call twice a second, never raises for a sensor."""


class PcBoard:
    """Any Linux machine, through psutil and /sys."""

    def __init__(self, sys_root: Path = Path("/")) -> None:
        self._governor = _governor_file(sys_root)
        self._temperatures = tuple(_cpu_temperature_files(sys_root))
        self._process = psutil.Process()
        psutil.cpu_percent()  # the load is counted from here on; this first answer means nothing

    def read(self) -> BoardStatus:
        millidegrees = (_read_text(path) for path in self._temperatures)
        degrees = [int(text) / 1000 for text in millidegrees if text and text.isdecimal()]
        return BoardStatus(
            cpu_percent=psutil.cpu_percent(),
            memory_available_mb=psutil.virtual_memory().available / MB,
            rss_mb=self._process.memory_info().rss / MB,
            temperature_c=max(degrees, default=None),
            cpu_governor=_read_text(self._governor),
        )


def open_board(name: str = "auto") -> Board:
    """The board called `name`; "auto" takes the one this machine is. ValueError for others."""
    if name in ("auto", "pc"):
        return PcBoard()
    raise ValueError(f"board {name!r} is not one of: auto, pc")


def describe_machine(sys_root: Path = Path("/")) -> dict[str, object]:
    """What a measurement depends on. Nothing that names the machine or its user."""
    return {
        "cpu": _cpu_model(sys_root),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_mb": round(psutil.virtual_memory().total / MB),
        "architecture": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "governor": read_governor(sys_root),
    }


def read_governor(sys_root: Path = Path("/")) -> str | None:
    """How the first core's clock rate is chosen; None where the system does not say."""
    return _read_text(_governor_file(sys_root))


def _governor_file(sys_root: Path) -> Path:
    return sys_root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def _cpu_temperature_files(sys_root: Path) -> Iterator[Path]:
    """Files in millidegrees Celsius."""
    for folder in sorted((sys_root / "sys/class/hwmon").glob("hwmon*")):
        if _names_cpu(folder / "name"):
            yield from sorted(folder.glob("temp*_input"))
    for folder in sorted((sys_root / "sys/class/thermal").glob("thermal_zone*")):
        if _names_cpu(folder / "type"):
            yield folder / "temp"


def _names_cpu(path: Path) -> bool:
    name = (_read_text(path) or "").lower()
    return name.startswith(CPU_SENSORS)


def _cpu_model(sys_root: Path) -> str:
    """The board's name where there is a device tree (arm), else the processor's."""
    model = _read_text(sys_root / "proc/device-tree/model")
    if model:
        return model
    for line in (_read_text(sys_root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware"):
            return value.strip()
    return platform.processor() or "unknown"


def _read_text(path: Path) -> str | None:
    """The file's text; None when it is missing, or a sensor that does not answer just now."""
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip().strip("\0") or None
    return None
