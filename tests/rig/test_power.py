"""Power cuts."""

from __future__ import annotations

import random
import time

import pytest

from .device import COMMAND, Device
from .machine import Machine

CUTS = 15
SEED = 20261123


def check_boot(machine: Machine) -> Device:
    """Boot after a power cut: the service starts with valid bundles."""
    machine.start()
    device = Device(machine)
    device.wait_ready(90)
    device.wait_estimate(30)
    bundles = device.run(f"{COMMAND} bundle list")
    assert "damaged" not in bundles, bundles
    assert "missing" not in bundles, bundles
    assert "is skipped" not in device.journal()
    return device


@pytest.mark.rig_core
def test_single_power_cut(fresh: Machine) -> None:
    """During a run."""
    fresh.start(fresh=True)
    Device(fresh).wait_ready(90)
    time.sleep(random.Random(SEED).uniform(0, 3))
    fresh.cut()
    check_boot(fresh)


def test_cuts_at_random_moments(fresh: Machine) -> None:
    """During boot, start or run: the next boot works, with valid bundles."""
    chance = random.Random(SEED)
    fresh.start(fresh=True)
    for _ in range(CUTS):
        time.sleep(chance.uniform(0, 20))
        fresh.cut()
        fresh.start()
    fresh.cut()
    check_boot(fresh)
