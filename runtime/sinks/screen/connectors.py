"""The monitors that Linux knows of, from /sys/class/drm: no device is opened, nothing is probed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...board.sysfs import list_names, read_text

_CONNECTOR = re.compile(r"card([0-9]+)-([A-Za-z0-9-]+)")
_NO_MONITOR = "Writeback"  # a connector that writes to memory


@dataclass(frozen=True, slots=True)
class Connector:
    """A socket for a monitor."""

    card: str
    """Its device, such as "/dev/dri/card0"."""
    name: str
    """Such as "HDMI-A-1"."""
    status: str
    """The kernel's word: "connected", "disconnected" or "unknown"; "" when it does not answer."""
    modes: tuple[str, ...]
    """What the monitor offers, the preferred one first, such as "1920x1080"."""


def list_connectors(sys_root: Path) -> list[Connector]:
    """Every connector of every card, in the order of the cards' numbers."""
    folder = sys_root / "sys/class/drm"
    found = [match for match in map(_CONNECTOR.fullmatch, list_names(str(folder))) if match]
    return [
        Connector(
            card=f"/dev/dri/card{match[1]}",
            name=match[2],
            status=read_text(f"{folder}/{match[0]}/status") or "",
            modes=tuple((read_text(f"{folder}/{match[0]}/modes") or "").split()),
        )
        for match in sorted(found, key=lambda match: (int(match[1]), match[2]))
        if not match[2].startswith(_NO_MONITOR)
    ]
