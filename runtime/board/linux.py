"""The sensors of any Linux machine, from psutil, /proc/pressure and /sys."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil

from ..clock import Clock, MonotonicClock
from .status import MB, BoardStatus
from .sysfs import (
    CachedDiscovery,
    Pressure,
    find_hwmon,
    list_cpu_files,
    list_names,
    list_numbered,
    read_mhz,
    read_name,
    read_number,
)

PROCESSOR_SENSORS = (
    *("coretemp", "k10temp", "zenpower", "x86_pkg_temp", "tcpu"),  # PC
    *("cpu", "gpu", "soc", "cv", "tj"),  # ARM: cpu-thermal, CPU-therm; Jetson: cv0-thermal, ...
)
"""Prefixes of the names of hardware monitors and thermal zones of the processor."""
TEMPERATURE_FILE = re.compile(r"temp(\d+)_input")
MAX_COUNT = 2**63


def read_governor(sys_root: Path = Path("/")) -> str | None:
    """Return the frequency governor of the first core; None if unknown."""
    return read_name(f"{sys_root}/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def measures_processor(name: str) -> bool:
    """Return whether a monitor or zone of this name measures the processor."""
    return name.lower().startswith(PROCESSOR_SENSORS)


def find_temperatures(root: str) -> dict[str, str]:
    """Find the files in millidegrees, by name: of every thermal zone, and of the processor's
    hardware monitors. Other monitors are not read: some disks and laptops are slow to respond."""
    files: dict[str, str] = {}
    for zone in list_numbered(f"{root}/sys/class/thermal", "thermal_zone"):
        if name := read_name(f"{zone}/type"):
            files[_free_name(files, name)] = f"{zone}/temp"
    for name, folder in find_hwmon(root):
        if not measures_processor(name):
            continue
        for match in filter(None, map(TEMPERATURE_FILE.fullmatch, list_names(folder))):
            label = read_name(f"{folder}/temp{match[1]}_label") or f"temp{match[1]}"
            files[_free_name(files, f"{name} {label}")] = f"{folder}/{match[0]}"
    return files


def _free_name(used: dict[str, str], name: str) -> str:
    """Return `name`, with a number if another sensor has it already."""
    free, number = name, 2
    while free in used:
        free, number = f"{name} {number}", number + 1
    return free


class PcBoard:
    """Any Linux machine. Read it on one thread: psutil measures the CPU load for each thread, and
    the first value of a thread is 0."""

    def __init__(self, sys_root: Path = Path("/"), clock: Clock | None = None) -> None:
        root = str(sys_root).rstrip("/")
        clock = clock or MonotonicClock()
        self._sys_root = sys_root
        self._temperatures = CachedDiscovery(lambda: find_temperatures(root))
        self._clocks = list_cpu_files(root, "cpufreq/scaling_cur_freq")
        self._throttle_counts = list_cpu_files(root, "thermal_throttle/core_throttle_count")
        self._cpu_pressure = Pressure(f"{root}/proc/pressure/cpu", clock)
        self._memory_pressure = Pressure(f"{root}/proc/pressure/memory", clock)
        self._process = psutil.Process()
        self._load = self._measure_load()  # measured from here on; the first value is meaningless

    def read(self) -> BoardStatus:
        with suppress(
            OSError, psutil.Error
        ):  # /proc cannot be opened without a free file descriptor
            self._load = self._measure_load()
        cpu_percent, memory_available_mb, rss_mb = self._load
        temperatures = self._read_temperatures()
        processor = [t for name, t in temperatures.items() if measures_processor(name)]
        clocks = [mhz for file in self._clocks if (mhz := read_mhz(file, 1000)) is not None]
        return BoardStatus(
            cpu_percent=cpu_percent,
            memory_available_mb=memory_available_mb,
            rss_mb=rss_mb,
            temperature_c=max(processor, default=None),
            cpu_governor=read_governor(self._sys_root),
            temperatures_c=temperatures,
            cpu_freq_mhz=sum(clocks) / len(clocks) if clocks else None,
            cpu_pressure=self._cpu_pressure.read(),
            memory_pressure=self._memory_pressure.read(),
            throttle_events=self._read_throttle_events(),
        )

    def _measure_load(self) -> tuple[float, float, float]:
        return (
            psutil.cpu_percent(),
            psutil.virtual_memory().available / MB,
            self._process.memory_info().rss / MB,
        )

    def _read_temperatures(self) -> dict[str, float]:
        files = self._temperatures.get()
        read = {name: read_number(file, -40_000, 150_000) for name, file in files.items()}
        temperatures = {name: value / 1000 for name, value in read.items() if value is not None}
        self._temperatures.failed |= not temperatures or len(temperatures) < len(files)
        return temperatures

    def _read_throttle_events(self) -> dict[str, int]:
        counts = [read_number(file, 0, MAX_COUNT) for file in self._throttle_counts]
        known = [count for count in counts if count is not None]
        return {"thermal": sum(known)} if known else {}
