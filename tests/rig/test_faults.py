"""Faults of the system around the service."""

from __future__ import annotations

import pytest

from .device import Device, Recovered

LIMIT_S = 10


def test_full_disk(device: Device, recovered: Recovered) -> None:
    """It goes on, logs the fault once, and restarts. With space again the fault ends."""
    before = device.process
    device.run("dd if=/dev/zero of=/full bs=1M 2>/dev/null; sync", check=False)
    device.wait_status("disk: full", LIMIT_S)
    device.wait_estimate(LIMIT_S)
    assert device.process == before
    assert device.count("disk: full") == 1
    device.run(f"kill -KILL {before}; sleep 0.3")
    recovered("start on a full disk: estimates", device.wait_estimate(60))
    device.run("rm /full")
    recovered("space on the disk again", device.wait_healthy(LIMIT_S))


def test_read_only_root(device: Device, recovered: Recovered) -> None:
    """As ext4 does after an error. It goes on, logs the fault once, and restarts. Once the file
    system is writable the fault ends."""
    before = device.process
    device.run("echo u >/proc/sysrq-trigger; sleep 1")
    assert "Read-only file system" in device.run("touch /x 2>&1", check=False)
    device.wait_status("disk: read-only", LIMIT_S)
    device.wait_estimate(LIMIT_S)
    assert device.process == before
    assert device.count("disk: read-only") == 1
    device.run(f"kill -KILL {before}; sleep 0.3")
    recovered("start on a read-only root: estimates", device.wait_estimate(60))
    device.run("mount -o remount,rw /")
    recovered("root writable again", device.wait_healthy(LIMIT_S))


@pytest.mark.parametrize("step", ["+1 day", "-1 day"])
def test_clock_is_set(device: Device, step: str) -> None:
    """A jump of the wall clock by a day has no effect."""
    before = device.process
    times = [estimate["t_ms"] for estimate, _ in zip(device.estimates(10), range(5), strict=False)]
    device.run(f"date --set '{step}'")
    times += [estimate["t_ms"] for estimate, _ in zip(device.estimates(10), range(5), strict=False)]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60_000
    device.run("sleep 12")
    device.wait_healthy(10)
    assert device.process == before
    assert device.show("NRestarts") == "0"
