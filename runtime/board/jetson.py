"""The sensors of an NVIDIA Jetson, from files that every user may read: no root, no jtop.

Files and their sources:

- GPU: load in permille, clock in Hz under devfreq, which appears late on JetPack 7
  (jetson_stats pull requests 867 and 889). Orin does not support NVML.
- Power: INA3221 monitors, mV and mA (Linux: Documentation/hwmon/ina3221.rst). Rails are as in
  Linux' tegra234-p3767.dtsi (Orin Nano, NX: VDD_IN is the whole module) and tegra234-p3701.dtsi
  (AGX Orin: no rail of the whole). in4 to in7 of the driver are shunt voltages, not rails.
- Throttling: the monitor "soctherm_oc" of NVIDIA's tegra23x-oc-event driver; oc1 counts
  under-voltage, oc2 average and oc3 instantaneous over-current (Jetson Linux Developer Guide,
  Platform Power and Performance).
- Power mode: nvpmodel stores the number of the last one; names are in its configuration.

Written against those sources and synthetic trees; it has run on no Jetson yet.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..clock import Clock
from .linux import PcBoard
from .status import BoardStatus
from .sysfs import (
    CachedDiscovery,
    find_hwmon,
    list_names,
    read_bytes,
    read_mhz,
    read_name,
    read_number,
    read_text,
)

GPU_LOAD_FILES = (
    "sys/devices/platform/bus@0/17000000.gpu/load",  # JetPack 6
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/gpu.0/load",
)
GPU_NAMES = ("gpu", "ga10b", "gv11b")
THROTTLE_FILES = {
    "under-voltage": "oc1_event_cnt",
    "average over-current": "oc2_event_cnt",
    "instantaneous over-current": "oc3_event_cnt",
}
SUPPLIES = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
"""Rails that add up to the whole module. AGX Orin's VDDQ_VDD2_1V8AO is a part of VIN_SYS_5V0
(Developer Guide, Software-Based Power Consumption Modeling)."""
MAX_MILLI = 100_000
MAX_COUNT = 2**32 - 1
NVMAP_USED = re.compile(rb"^NvMapMemUsed:\s+(\d{1,12}) kB", re.MULTILINE)
MODE = re.compile(r"(?<!\S)pmode:\s*0*([0-9]{1,9})(?!\S)")
"""As in "pmode:0002 fmode:fan_mode_quiet"."""
MODE_NAME = re.compile(
    r"^[ \t]*<\s*POWER_MODEL\s+ID=0*([0-9]{1,9})[ \t]+NAME=[ \t]*([^\s>](?:[^>\n]*[^\s>])?)\s*>",
    re.MULTILINE,
)


class Rail(NamedTuple):
    """A power rail and its files."""

    name: str
    millivolts: str
    milliamperes: str


def find_gpu_load(root: str) -> str | None:
    """Find the file of the GPU's load in permille."""
    files = [f"{root}/{name}" for name in GPU_LOAD_FILES]
    clock = find_gpu_clock(root)
    if clock is not None:
        files.append(f"{clock}/device/load")
    return next((file for file in files if read_number(file, 0, 1000) is not None), None)


def find_gpu_clock(root: str) -> str | None:
    """Find the GPU's folder of devfreq, with cur_freq and max_freq in Hz."""
    folder = f"{root}/sys/class/devfreq"
    names = (name for name in list_names(folder) if any(gpu in name for gpu in GPU_NAMES))
    return next((f"{folder}/{name}" for name in names), None)


def find_rails(root: str) -> list[Rail]:
    """Find every named rail; an unused channel is named NC or has no name."""
    rails = []
    for name, folder in find_hwmon(root):
        for channel in (1, 2, 3) if name == "ina3221" else ():
            label = read_name(f"{folder}/in{channel}_label")
            if label and label != "NC":
                files = f"{folder}/in{channel}_input", f"{folder}/curr{channel}_input"
                rails.append(Rail(label, *files))
    return rails


def find_throttle_counters(root: str) -> dict[str, str]:
    """Find the files of the counters, by cause."""
    folders = [folder for name, folder in find_hwmon(root) if name == "soctherm_oc"]
    return {
        cause: f"{folder}/{name}" for folder in folders for cause, name in THROTTLE_FILES.items()
    }


def find_power_modes(root: str) -> dict[int, str]:
    """Return the names of nvpmodel's modes by number. A higher number is not a faster mode."""
    text = read_text(f"{root}/etc/nvpmodel.conf", max_bytes=2**18) or ""
    return {int(number): name for number, name in MODE_NAME.findall(text)}


def read_power_mode_id(root: str) -> int | None:
    """Return the number of the power mode."""
    match = MODE.search(read_text(f"{root}/var/lib/nvpmodel/status") or "")
    return None if match is None else int(match[1])


def read_power_mode(root: str) -> str | None:
    """Return the name of the power mode; its number without a name, None if unknown."""
    mode = read_power_mode_id(root)
    return None if mode is None else find_power_modes(root).get(mode, f"mode {mode}")


def sum_supplies_mw(rails_mw: dict[str, float]) -> float | None:
    """Return the power of the whole module; None unless all of its rails were read."""
    for names in SUPPLIES:
        if all(name in rails_mw for name in names):
            return sum(rails_mw[name] for name in names)
    return None


class JetsonBoard:
    """A Jetson: the sensors of every Linux machine (`PcBoard`), and those of the chip."""

    def __init__(self, sys_root: Path = Path("/"), clock: Clock | None = None) -> None:
        self._root = root = str(sys_root).rstrip("/")
        self._linux = PcBoard(sys_root, clock)
        self._gpu_load = CachedDiscovery(lambda: find_gpu_load(root))
        self._gpu_clock = CachedDiscovery(lambda: find_gpu_clock(root))
        self._rails = CachedDiscovery(lambda: find_rails(root))
        self._throttle_counters = CachedDiscovery(lambda: find_throttle_counters(root))
        self._power_modes = CachedDiscovery(lambda: find_power_modes(root))

    def read(self) -> BoardStatus:
        rails_mw = self._read_rails_mw()
        return replace(
            self._linux.read(),
            gpu_load_percent=self._read_gpu_load(),
            gpu_freq_mhz=self._read_gpu_clock(),
            power_mw=sum_supplies_mw(rails_mw),
            power_rails_mw=rails_mw,
            throttle_events=self._read_throttle_events(),
            power_mode=self._read_power_mode(),
            nvmap_used_mb=self._read_nvmap_mb(),
        )

    def _read_gpu_load(self) -> float | None:
        file = self._gpu_load.get()
        permille = read_number(file, 0, 1000) if file else None
        self._gpu_load.failed |= permille is None
        return None if permille is None else permille / 10

    def _read_gpu_clock(self) -> float | None:
        folder = self._gpu_clock.get()
        mhz = read_mhz(f"{folder}/cur_freq", 1_000_000) if folder else None
        self._gpu_clock.failed |= mhz is None
        return mhz

    def _read_rails_mw(self) -> dict[str, float]:
        rails = self._rails.get()
        rails_mw: dict[str, float] = {}
        for rail in rails:
            millivolts = read_number(rail.millivolts, 0, MAX_MILLI)
            milliamperes = read_number(rail.milliamperes, 0, MAX_MILLI)
            if millivolts is not None and milliamperes is not None:
                rails_mw[rail.name] = millivolts * milliamperes / 1000
        self._rails.failed |= not rails_mw or len(rails_mw) < len(rails)
        return rails_mw

    def _read_throttle_events(self) -> dict[str, int]:
        files = self._throttle_counters.get()
        read = {cause: read_number(file, 0, MAX_COUNT) for cause, file in files.items()}
        counts = {cause: count for cause, count in read.items() if count is not None}
        self._throttle_counters.failed |= not counts or len(counts) < len(files)
        return counts

    def _read_power_mode(self) -> str | None:
        names = self._power_modes.get()
        mode = read_power_mode_id(self._root)
        if mode is None:
            return None
        self._power_modes.failed |= mode not in names
        return names.get(mode, f"mode {mode}")

    def _read_nvmap_mb(self) -> float | None:
        match = NVMAP_USED.search(read_bytes(f"{self._root}/proc/meminfo", 16384) or b"")
        return None if match is None else int(match[1]) / 1024
