"""The power fails at any instant."""

from __future__ import annotations

import random
import time

import pytest

from .device import COMMAND, Device
from .machine import Machine

CUTS = 15
SEED = 20261123


def boots_well(machine: Machine) -> Device:
    """After a power cut: it starts by itself and has a valid bundle."""
    machine.start()
    device = Device(machine)
    device.wait_ready(90)
    device.wait_estimate(30)
    bundles = device.run(f"{COMMAND} bundle list")
    assert "damaged" not in bundles, bundles
    assert "missing" not in bundles, bundles
    assert "passed over" not in device.journal()
    return device


@pytest.mark.rig_core
def test_single_power_cut(fresh: Machine) -> None:
    """In the middle of a run."""
    fresh.start(fresh=True)
    Device(fresh).wait_ready(90)
    time.sleep(random.Random(SEED).uniform(0, 3))
    fresh.cut()
    boots_well(fresh)


def test_cuts_at_random_moments(fresh: Machine) -> None:
    """During boot, start and run: it always boots, and always has a valid bundle."""
    chance = random.Random(SEED)
    fresh.start(fresh=True)
    for _ in range(CUTS):
        time.sleep(chance.uniform(0, 20))
        fresh.cut()
        fresh.start()
    fresh.cut()
    boots_well(fresh)
