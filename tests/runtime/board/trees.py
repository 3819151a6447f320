"""Synthetic /sys, /proc and /etc of boards, with the layout of their drivers.

Links are where the kernel has links: /sys/class/hwmon/hwmon3 points into the device's own folder.
`emotion_edge.runtime.board.jetson` names the sources. These trees have not been compared with a
real board yet.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CPU = "sys/devices/system/cpu"
GPU = "sys/devices/platform/bus@0/17000000.gpu"
I2C = "sys/devices/platform/bus@0/c240000.i2c/i2c-1"
THROTTLING = "sys/devices/platform/soctherm-oc-event"
INVALID_READINGS = (
    b"N/A\n",
    b"",
    b"\xff\xfe\x00\x80",
    b"9" * 5000,
    b"-999999999\n",
    b"<unknown>\n",
)
JETPACK_6 = ("R36", "4.4")
JETPACK_7 = ("R39", "2.0")


@dataclass(frozen=True)
class Module:
    """A Jetson, and the expected readings."""

    model: str
    compatible: str
    cores: int
    rails: dict[str, tuple[tuple[str, int, int], ...]]
    """Monitor on the I2C bus -> its channels: name, mV, mA."""
    modes: tuple[str, ...]
    mode: int
    power_mw: float


ORIN_NANO = Module(
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    6,
    {
        "1-0040": (
            ("VDD_IN", 4992, 1440),
            ("VDD_CPU_GPU_CV", 4984, 320),
            ("VDD_SOC", 4984, 296),
        )
    },
    ("15W", "25W", "MAXN_SUPER", "7W"),
    2,
    4992 * 1.440,
)
ORIN_NX = Module(
    "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
    "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234\0",
    8,
    {
        "1-0040": (
            ("VDD_IN", 5016, 2064),
            ("VDD_CPU_GPU_CV", 5000, 624),
            ("VDD_SOC", 4992, 400),
        )
    },
    ("MAXN", "10W", "15W", "25W"),
    3,
    5016 * 2.064,
)
AGX_ORIN = Module(
    "NVIDIA Jetson AGX Orin Developer Kit",
    "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
    12,
    {
        "1-0040": (
            ("VDD_GPU_SOC", 11976, 264),
            ("VDD_CPU_CV", 11984, 72),
            ("VIN_SYS_5V0", 4968, 780),
        ),
        "1-0041": (("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), ("NC", 0, 0)),
    },
    ("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
    0,
    11976 * 0.264 + 11984 * 0.072 + 4968 * 0.780,
)
MODULES = {"nano": ORIN_NANO, "nx": ORIN_NX, "agx": AGX_ORIN}
ZONES = {
    "cpu-thermal": 51187,
    "gpu-thermal": 48656,
    "cv0-thermal": None,  # off: the driver returns EAGAIN
    "cv1-thermal": None,
    "cv2-thermal": None,
    "soc0-thermal": 49093,
    "soc1-thermal": 50343,
    "soc2-thermal": 47125,
    "tj-thermal": 51437,
}


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def make_unreadable(path: Path) -> None:
    """Replace it by a folder: root ignores permissions."""
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def add_hwmon(root: Path, device: str, number: int, files: dict[str, str]) -> None:
    folder = root / device / "hwmon" / f"hwmon{number}"
    write_files(folder, files)
    link(root / "sys/class/hwmon" / folder.name, folder)


def move_hwmon(root: Path, device: str, number: int) -> None:
    """Give the monitor another number, as after a new load of its driver."""
    (old,) = (root / device / "hwmon").iterdir()
    (root / "sys/class/hwmon" / old.name).unlink()
    new = old.rename(old.with_name(f"hwmon{number}"))
    link(root / "sys/class/hwmon" / new.name, new)


def add_cores(root: Path, cores: int, khz: int, max_khz: int) -> None:
    for core in range(cores):
        folder = f"{CPU}/cpu{core}/cpufreq"
        write_files(
            root,
            {
                f"{folder}/scaling_cur_freq": f"{khz}\n",
                f"{folder}/scaling_max_freq": f"{max_khz}\n",
                f"{folder}/scaling_governor": "schedutil\n",
            },
        )
    write_files(root, {f"{CPU}/cpufreq/boost": "0\n", f"{CPU}/online": f"0-{cores - 1}\n"})


def set_pressure(root: Path, total_us: int, avg10: float = 0.0, of: str = "cpu") -> None:
    some = f"some avg10={avg10:.2f} avg60=0.00 avg300=0.00 total={total_us}\n"
    full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    write_files(root, {f"proc/pressure/{of}": some + full})


def add_gpu_clock(root: Path) -> None:
    """Add devfreq, which JetPack 7 adds late."""
    folder = f"{GPU}/devfreq/17000000.gpu"
    write_files(root, {f"{folder}/cur_freq": "624750000\n", f"{folder}/max_freq": "1020000000\n"})
    link(root / folder / "device", root / GPU)
    link(root / "sys/class/devfreq/17000000.gpu", root / folder)


def build_jetson(root: Path, module: Module, l4t: tuple[str, str] = JETPACK_6) -> Path:
    """Build the tree of a Jetson and return `root`."""
    release = f"# {l4t[0]} (release), REVISION: {l4t[1]}, GCID: 41062509, BOARD: generic\n"
    modes = enumerate(module.modes)
    write_files(
        root,
        {
            "etc/nv_tegra_release": release + "# KERNEL_VARIANT: oot\n",
            "etc/nvpmodel.conf": "# PARAM\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n"
            + "".join(f"< POWER_MODEL ID={n} NAME={name} >\nGPU MAX -1\n" for n, name in modes)
            + "< PM_CONFIG DEFAULT=0 >\n",
            "var/lib/nvpmodel/status": f"pmode:{module.mode:04}",
            "proc/device-tree/model": f"{module.model}\0",
            "proc/device-tree/compatible": module.compatible,
            "proc/meminfo": "MemTotal: 7801732 kB\nNvMapMemFree: 0 kB\nNvMapMemUsed: 524288 kB\n",
            f"{GPU}/load": "437\n",
        },
    )
    link(root / "sys/devices/platform/gpu.0", root / GPU)
    add_gpu_clock(root)
    add_cores(root, module.cores, 1_190_400, 1_728_000)
    set_pressure(root, 1_000_000)
    set_pressure(root, 0, of="memory")
    for number, (name, millidegrees) in enumerate(ZONES.items()):
        folder = f"sys/devices/virtual/thermal/thermal_zone{number}"
        write_files(root, {f"{folder}/type": f"{name}\n", f"{folder}/temp": f"{millidegrees}\n"})
        if millidegrees is None:
            make_unreadable(root / folder / "temp")
        link(root / f"sys/class/thermal/thermal_zone{number}", root / folder)
    add_hwmon(root, "sys/devices/platform/pwm-fan", 0, {"name": "pwmfan\n", "pwm1": "66\n"})
    nvme = {"name": "nvme\n", "temp1_input": "91850\n", "temp1_label": "Composite\n"}
    add_hwmon(root, "sys/devices/platform/nvme0", 1, nvme)
    number = 2 if l4t == JETPACK_6 else 3
    for address, channels in module.rails.items():
        add_hwmon(root, f"{I2C}/{address}", number, describe_rails(channels))
        number += 1
    counters = {f"oc{n}_event_cnt": "0\n" for n in (1, 2, 3)}
    enabled = {f"oc{n}_throt_en": "1\n" for n in (1, 2, 3)}
    add_hwmon(root, THROTTLING, number, {"name": "soctherm_oc\n", **counters, **enabled})
    return root


def describe_rails(channels: Sequence[tuple[str, int, int]]) -> dict[str, str]:
    """Return the files of an INA3221: three channels, the shunt voltages and their sum."""
    files = {"name": "ina3221\n", "in7_label": "sum of shunt voltages\n", "in7_input": "4360\n"}
    for number, (label, millivolts, milliamperes) in enumerate(channels, start=1):
        files[f"in{number}_label"] = f"{label}\n"
        files[f"in{number}_input"] = f"{millivolts}\n"
        files[f"curr{number}_input"] = f"{milliamperes}\n"
        files[f"in{number + 3}_input"] = "1440\n"
    files["curr4_input"] = "872\n"
    return files


def build_pc(root: Path) -> Path:
    """Build a laptop: two throttled cores, disk and case hotter than the processor."""
    add_cores(root, 2, 2_400_000, 4_200_000)
    set_pressure(root, 5_000_000, avg10=12.5)
    set_pressure(root, 0, of="memory")
    write_files(
        root,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4\n",
            "sys/class/thermal/thermal_zone0/type": "acpitz\n",
            "sys/class/thermal/thermal_zone0/temp": "27800\n",
            "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone1/temp": "52000\n",
            "sys/class/thermal/thermal_zone2/type": "acpitz\n",
            "sys/class/thermal/thermal_zone2/temp": "69800\n",
        },
    )
    nvme = {"name": "nvme\n", "temp1_input": "91000\n"}
    add_hwmon(root, "sys/devices/pci0000:00/nvme0", 0, nvme)
    coretemp = {
        "name": "coretemp\n",
        "temp1_label": "Package id 0\n",
        "temp1_input": "51000\n",
        "temp2_label": "Core 0\n",
        "temp2_input": "53500\n",
        "temp2_crit": "100000\n",
    }
    add_hwmon(root, "sys/devices/platform/coretemp.0", 3, coretemp)
    return root


def break_half(root: Path, seed: int) -> int:
    """Remove half of the files, or replace them by folders, links or garbage. Return how many."""
    rng = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    broken = rng.sample(files, len(files) // 2)
    for path in broken:
        path.unlink()
        kind = rng.randrange(6)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            path.symlink_to("nowhere")
        elif kind > 2:
            path.write_bytes(rng.choice(INVALID_READINGS))
    return len(broken)


def remove(path: Path) -> None:
    """Remove a driver's folder, and the link to it."""
    if path.is_symlink():
        target = path.resolve()
        path.unlink()
        path = target
    shutil.rmtree(path)
