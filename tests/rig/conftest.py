"""The virtual device, booted once. Each test begins with the snapshot of the ready service.

EMOTION_EDGE_RIG names the folder where `scripts/build_image debian` makes its disk. Without it, or
without QEMU, these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .device import READY, Device, Recovered
from .machine import Machine

CHECKOUT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 900
PROGRAMS = ("qemu-system-x86_64", "qemu-img", "ssh")

_recovery_times: list[tuple[str, float]] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time to recover from each fault."""
    if _recovery_times:
        terminalreporter.section("recovery in the virtual device")
        for what, seconds in _recovery_times:
            terminalreporter.line(f"{seconds:6.1f} s  {what}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Extend the timeout, since booting counts in the first test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.rig)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def image() -> Path:
    """The folder of the disk, built from this checkout."""
    folder = os.environ.get("EMOTION_EDGE_RIG")
    if not folder:
        pytest.skip("no virtual device: scripts/test --rig runs these tests")
    if os.geteuid():
        pytest.skip("no virtual device: its disk is made by root")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no virtual device: {', '.join(missing)} not installed")
    build = [str(CHECKOUT / "scripts/build_image"), "debian", folder]
    made = subprocess.run(
        build, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if made.returncode == 4:
        pytest.skip(f"no virtual device: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stdout + made.stderr
    return Path(folder)


@pytest.fixture(scope="session")
def booted(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine with a snapshot of the running service."""
    with Machine(image, tmp_path_factory.mktemp("rig")) as machine:
        machine.start(fresh=True)
        device = Device(machine)
        device.wait_ready(90)
        device.wait_healthy(60)
        machine.save(READY)
        yield machine


@pytest.fixture
def recovered() -> Recovered:
    return lambda what, seconds: _recovery_times.append((what, seconds))


@pytest.fixture
def device(booted: Machine) -> Device:
    """The machine at the snapshot of the ready service."""
    booted.load(READY)
    return Device(booted)


@pytest.fixture
def fresh(image: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine for one test, not started."""
    with Machine(image, tmp_path / "machine") as machine:
        yield machine
