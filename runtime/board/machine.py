"""The detection of the board, and the description of the machine for benchmarks.

`sys_root` replaces / in tests.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import psutil

from ...engines.cpus import count_cpus
from ...engines.tensorrt import read_l4t_release
from .jetson import JetsonBoard, find_gpu_clock, read_power_mode
from .linux import PcBoard, read_governor
from .status import MB, Board
from .sysfs import list_cpu_files, read_bytes, read_mhz, read_name, read_text

BOARDS = ("auto", "jetson", "pc")
TEGRA_RELEASE = "etc/nv_tegra_release"
L4T = re.compile(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
JETPACK_OF_L4T = {
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",  # an update of packages
    "36.5": "6.2.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
    "39.2.1": "7.2.1",
}
"""Source: NVIDIA's JetPack archive."""


def open_board(name: str = "auto", sys_root: Path = Path("/")) -> Board:
    """Open the board of this name; "auto" detects it.

    Raises ValueError for another name, and for "jetson" on another machine.
    """
    if name not in BOARDS:
        raise ValueError(f"board {name!r} is not one of: {', '.join(BOARDS)}")
    if name == "pc":
        return PcBoard(sys_root)
    if is_jetson(sys_root):
        return JetsonBoard(sys_root)
    if name == "jetson":
        raise ValueError(
            "board 'jetson': this machine is not a Jetson: it has no /etc/nv_tegra_release, and its"
            " device tree does not name nvidia,tegra"
        )
    return PcBoard(sys_root)


def is_jetson(sys_root: Path = Path("/")) -> bool:
    """Detect NVIDIA's Linux, or the device tree, which a container has too."""
    compatible = read_bytes(str(sys_root / "proc/device-tree/compatible")) or b""
    return (sys_root / TEGRA_RELEASE).exists() or b"nvidia,tegra" in compatible


def describe_machine(sys_root: Path = Path("/")) -> dict[str, object]:
    """Describe what a measurement depends on, without names of the machine or its user."""
    root = str(sys_root).rstrip("/")
    board = read_name(f"{root}/proc/device-tree/model")
    l4t = read_l4t(sys_root)
    gpu = find_gpu_clock(root) if is_jetson(sys_root) else None
    return {
        "cpu": board or _cpu_model(root),
        "cores": os.cpu_count(),
        "cores_usable": count_cpus(sys_root),
        "memory_mb": round(psutil.virtual_memory().total / MB),
        "architecture": platform.machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "governor": read_governor(sys_root),
        "board": board,
        "jetpack": name_jetpack(l4t),
        "l4t": l4t,
        "power_mode": read_power_mode(root),
        "cpu_freq_mhz": _read_cpu_clocks(root, "scaling_cur_freq"),
        # The limit of governor and power mode, not of the chip.
        "cpu_max_freq_mhz": max(_read_cpu_clocks(root, "scaling_max_freq"), default=None),
        "gpu_max_freq_mhz": read_mhz(f"{gpu}/max_freq", 1_000_000) if gpu else None,
    }


def read_l4t(sys_root: Path = Path("/")) -> str | None:
    """Return the version of NVIDIA's Linux, such as "36.4.3"; None on other systems."""
    match = L4T.search(read_l4t_release(sys_root / TEGRA_RELEASE))
    return None if match is None else f"{match[1]}.{match[2]}".removesuffix(".0")


def name_jetpack(l4t: str | None) -> str | None:
    """Return the JetPack version with this L4T; the L4T itself if unknown."""
    return None if l4t is None else JETPACK_OF_L4T.get(l4t, f"L4T {l4t}")


def _read_cpu_clocks(root: str, name: str) -> list[float]:
    clocks = (read_mhz(file, 1000) for file in list_cpu_files(root, f"cpufreq/{name}"))
    return [mhz for mhz in clocks if mhz is not None]


def _cpu_model(root: str) -> str:
    for line in (read_text(f"{root}/proc/cpuinfo", 65536) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware"):
            return value.strip()
    return platform.processor() or "unknown"
