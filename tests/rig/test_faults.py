"""The system around the service goes wrong."""

from __future__ import annotations

import pytest

from .device import Device, Recovered

STATE, CACHE = "/var/lib/emotion-edge", "/var/cache/emotion-edge"


def test_full_disk(device: Device, recovered: Recovered) -> None:
    """Not a byte left: it goes on, and starts again."""
    before = device.process
    device.run(
        "fallocate -l 100G /full 2>/dev/null; dd if=/dev/zero of=/full2 bs=1M 2>/dev/null; sync",
        check=False,
    )
    device.wait_estimate(10)
    assert device.process == before
    device.run("systemctl restart --no-block emotion-edge; sleep 1")
    device.wait_ready(60)
    recovered("start on a full disk: estimates", device.wait_estimate(30))


def test_read_only_root(device: Device, recovered: Recovered) -> None:
    """The file system went read-only, as ext4 does after an error: it goes on, and starts again."""
    before = device.process
    device.run("echo u >/proc/sysrq-trigger; sleep 1")
    assert device.run("touch /x 2>&1", check=False).endswith("Read-only file system")
    device.wait_estimate(10)
    assert device.process == before
    device.run(f"kill -KILL {before}; sleep 0.3")
    recovered("start on a read-only root: estimates", device.wait_estimate(60))


@pytest.mark.parametrize("step", ["+1 day", "-1 day"])
def test_clock_is_set(device: Device, step: str) -> None:
    """The wall clock jumps by a day: nobody notices."""
    before = device.process
    times = [estimate["t_ms"] for estimate, _ in zip(device.estimates(10), range(5), strict=False)]
    device.run(f"date --set '{step}'")
    times += [estimate["t_ms"] for estimate, _ in zip(device.estimates(10), range(5), strict=False)]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60_000
    device.run("sleep 12")
    device.wait_well(10)
    assert device.process == before
    assert device.show("NRestarts") == "0"
