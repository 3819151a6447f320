"""The doctor's look at the screen: is there a display device, may it be opened, is a monitor on it.

Nothing is opened: what the kernel says under /sys/class/drm is read. A Jetson shows no display
device before nvidia-drm is told to set modes (Jetson Linux API reference, Direct Rendering
Manager); this has looked at no Jetson yet.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..board.status import is_jetson
from ..sinks.screen.connectors import Connector, list_connectors
from .check import Check, join_group, may_open

MODESET = (
    "echo 'options nvidia-drm modeset=1' | sudo tee /etc/modprobe.d/nvidia-drm.conf, then restart"
)


def check_screen(sys_root: Path = Path("/"), may_open: Callable[[Path], bool] = may_open) -> Check:
    """A machine without any display is well; one whose display cannot be used is not."""
    connectors = [
        connector
        for connector in list_connectors(sys_root)
        if find_card(sys_root, connector).exists()
    ]
    if not connectors:
        if is_jetson(sys_root):
            return Check("screen", "warn", f"no display device: {MODESET}")
        return Check("screen", "ok", "no display hardware")
    closed = [c.card for c in connectors if not may_open(find_card(sys_root, c))]
    if len(closed) == len(connectors):
        hint = join_group("video")
        return Check("screen", "fail", f"no permission for {closed[0]}: {hint}")
    connected = [c for c in connectors if c.status == "connected" and c.card not in closed]
    if not connected:
        names = ", ".join(connector.name for connector in connectors)
        return Check("screen", "warn", f"no monitor connected to {names}")
    return Check("screen", "ok", ", ".join(map(describe, connected)))


def find_card(sys_root: Path, connector: Connector) -> Path:
    return sys_root / connector.card.lstrip("/")


def describe(connector: Connector) -> str:
    mode = connector.modes[0] if connector.modes else "unknown mode"
    return f"{connector.name} {mode} on {connector.card}"
