"""The monitor of the virtual device, with the kernel's own display driver."""

from __future__ import annotations

from emotion_edge.runtime.sinks.screen.view import GROUND

from .device import SERVICE, Device

STATUS = "/sys/class/drm/card0-Virtual-1/status"


def shows_view(device: Device) -> bool:
    """Return whether the monitor shows the screen sink: its background color and others."""
    _, _, rgb = device.machine.screen()
    return rgb[:3] == GROUND.to_bytes(3, "big") and len(set(rgb)) > 20


def test_unplugged_and_back(device: Device) -> None:
    """The same process goes on, logs the fault once, and draws again."""
    process = device.process
    assert shows_view(device)
    device.run(f"echo off > {STATUS}")
    device.wait_status("screen: no monitor", 30)
    device.run(f"echo on > {STATUS}")
    device.wait_healthy(60)
    device.wait("the view", lambda: shows_view(device), 30)
    assert device.process == process
    lines = device.journal().splitlines()
    assert sum("screen: no monitor" in line for line in lines) == 1
    assert sum("screen is back" in line for line in lines) == 1


def test_console_returns(device: Device) -> None:
    """After the service has stopped, the monitor shows the console."""
    device.run(f"systemctl stop {SERVICE}", timeout_s=30)
    device.wait("the console", lambda: not shows_view(device), 10)


def test_started_without_monitor(device: Device) -> None:
    """It starts without a monitor and draws when one is plugged in."""
    device.run(f"systemctl stop {SERVICE}; echo off > {STATUS}; systemctl start {SERVICE}")
    device.wait_status("no monitor", 60)
    device.run(f"echo on > {STATUS}")
    device.wait("the view", lambda: shows_view(device), 60)
