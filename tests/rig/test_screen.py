"""The monitor of the virtual device, with the kernel's own display driver."""

from __future__ import annotations

from emotion_edge.runtime.sinks.screen.view import GROUND

from .device import SERVICE, Device

STATUS = "/sys/class/drm/card0-Virtual-1/status"


def shows_us(device: Device) -> bool:
    """The corner has our ground's colour, and the picture more than that one."""
    _, _, rgb = device.machine.screen()
    return rgb[:3] == GROUND.to_bytes(3, "big") and len(set(rgb)) > 20


def test_unplugged_and_back(device: Device) -> None:
    """The same process goes on, says so once, and shows itself again."""
    process = device.process
    assert shows_us(device)
    device.run(f"echo off > {STATUS}")
    device.wait_status("screen: no monitor", 30)
    device.run(f"echo on > {STATUS}")
    device.wait_healthy(60)
    device.wait("our picture", lambda: shows_us(device), 30)
    assert device.process == process
    lines = device.journal().splitlines()
    assert sum("screen: no monitor" in line for line in lines) == 1
    assert sum("screen is back" in line for line in lines) == 1


def test_given_back(device: Device) -> None:
    """After the service has stopped, nothing of it is on the monitor."""
    device.run(f"systemctl stop {SERVICE}", timeout_s=30)
    device.wait("the console", lambda: not shows_us(device), 10)


def test_started_without_monitor(device: Device) -> None:
    """It is up all the same, and shows itself when one is plugged in."""
    device.run(f"systemctl stop {SERVICE}; echo off > {STATUS}; systemctl start {SERVICE}")
    device.wait_status("no monitor", 60)
    device.run(f"echo on > {STATUS}")
    device.wait("our picture", lambda: shows_us(device), 60)
