"""A root folder with the layout of the device, for systemd's tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[2] / "systemd"
UNITS = ("emotion-edge.service", "emotion-edge-build.service")
SYSTEM_UNITS = Path("/usr/lib/systemd/system")
PROGRAMS = ("opt/emotion-edge/venv/bin/emotion-edge", "sbin/modprobe", "bin/sh")

Setting = tuple[str, str]


def read_settings(name: str, section: str = "Service") -> list[Setting]:
    """Return the settings of one section of a shipped file, in order."""
    settings, inside = [], False
    for line in (SHIPPED / name).read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        elif inside and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.append((key, value))
    return settings


def read_setting(name: str, key: str, section: str = "Service") -> str:
    """Return the last value of `key`, which systemd uses for settings that are no lists."""
    return dict(read_settings(name, section))[key]


def make_root(root: Path, *, jetson: bool = False) -> Path:
    """Make a root folder with units, drop-ins and fake programs at their installed places."""
    units = root / "etc/systemd/system"
    for unit in UNITS:
        drop_ins = units / f"{unit}.d"
        drop_ins.mkdir(parents=True)
        shutil.copy(SHIPPED / unit, units)
        shutil.copy(SHIPPED / "sandbox.conf", drop_ins / "10-sandbox.conf")
        if jetson:
            shutil.copy(SHIPPED / "jetson.conf", drop_ins / "20-jetson.conf")
    if SYSTEM_UNITS.is_dir():
        shutil.copytree(SYSTEM_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    for program in PROGRAMS:
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", root / program)
    return root


def run_tool(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of systemd. Skips the test if it is not installed or too old."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    for error in ("unrecognized option", "Unknown operation"):
        if error in done.stderr:
            pytest.skip(f"{command[0]} is too old: {done.stderr.strip()}")
    return done
