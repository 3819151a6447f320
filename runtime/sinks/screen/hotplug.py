"""A display whose monitor may be unplugged and plugged in again.

In: pixels of its size. Out: they are on the monitor, or `fault` is the reason why not.
`list_connectors` reads the monitors from /sys/class/drm, without opening a device.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...board import list_names, read_text
from ...faults import FaultLog
from .display import Display, Pixels, Rect
from .drm import Handle, KmsError, find_output

log = logging.getLogger(__name__)

OpenHandle = Callable[[str], Handle]

POLL_NS = 1_000_000_000
"""Period of reading /sys, which takes microseconds."""
PROBE_NS = 5_000_000_000
"""Period of probing the driver: nvidia-drm of JetPack 6 (r36.5) updates the status in /sys only
after a probe (NVIDIA/open-gpu-kernel-modules, pull request 1127)."""
_CONNECTOR = re.compile(r"card([0-9]+)-([A-Za-z0-9-]+)")
_CARD = re.compile(r"/dev/dri/(card[0-9]+|by-path/[^/]+-card)")
_NO_MONITOR = "Writeback"  # a connector that writes to memory


@dataclass(frozen=True, slots=True)
class Connector:
    """A socket for a monitor."""

    card: str
    """Its device, such as "/dev/dri/card0"."""
    name: str
    """Such as "HDMI-A-1"."""
    status: str
    """The kernel's "connected", "disconnected" or "unknown"; "" if it cannot be read."""
    modes: tuple[str, ...]
    """The modes of the monitor, the preferred one first, such as "1920x1080"."""


def list_connectors(sys_root: Path) -> list[Connector]:
    """List the connectors of all cards, in the order of the cards' numbers."""
    folder = sys_root / "sys/class/drm"
    matches = [match for match in map(_CONNECTOR.fullmatch, list_names(str(folder))) if match]
    return [
        Connector(
            card=f"/dev/dri/card{match[1]}",
            name=match[2],
            status=read_text(f"{folder}/{match[0]}/status") or "",
            modes=tuple((read_text(f"{folder}/{match[0]}/modes") or "").split()),
        )
        for match in sorted(matches, key=lambda match: (int(match[1]), match[2]))
        if not match[2].startswith(_NO_MONITOR)
    ]


class HotplugDisplay:
    """The first connected monitor of a card. Only the constructor raises. It is for one thread;
    `fault` and `showing` may be read from any."""

    def __init__(
        self, card: str, sys_root: Path = Path("/"), open_handle: OpenHandle = Handle
    ) -> None:
        """`card`: a device, or "" for the first with a monitor. Raises ValueError for another."""
        if card and not _CARD.fullmatch(card):
            raise ValueError(f"screen {card!r} is not a display card: it is named /dev/dri/cardN")
        self.showing = False
        """Whether the newest pixels are on a connected monitor."""
        self._faults = FaultLog(log, "screen is back")
        self._card = card
        self._sys_root = sys_root
        self._open_handle = open_handle
        self._handle: Handle | None = None
        self._display: Display | None = None
        self._seen: list[Connector] | None = None
        self._polled_ns: int | None = None
        self._probe_ns = 0

    @property
    def fault(self) -> str:
        return self._faults.fault

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the monitor; None without one."""
        if self._display is None:
            return None
        return self._display.output.width, self._display.output.height

    def poll(self, now_ns: int) -> bool:
        """Look for a change, at most once a second. Return True for a new monitor, which has shown
        nothing yet."""
        if self._polled_ns is not None and now_ns - self._polled_ns < POLL_NS:
            return False
        self._polled_ns = now_ns
        seen = list_connectors(self._sys_root)
        if seen == self._seen and now_ns - self._probe_ns < PROBE_NS:
            return False
        self._probe_ns = now_ns
        changed = self._probe(seen)
        # Read again: the probe may have changed /sys.
        self._seen = list_connectors(self._sys_root)
        return changed

    def show(self, pixels: Pixels, rects: Sequence[Rect]) -> None:
        """Show `pixels`, of which `rects` have changed since the last call."""
        display = self._display
        if display is None:
            return
        try:
            display.show(pixels, rects)
        except KmsError as error:
            self._drop(f"screen: {error}")
            self._seen = None  # try again at the next poll
            return
        if not self.showing:
            output = display.output
            log.info("screen: showing %dx%d", output.width, output.height)
        self._set_fault("")
        self.showing = True

    def close(self) -> None:
        """Blank and release the display."""
        self._drop(self.fault)

    def _probe(self, seen: list[Connector]) -> bool:
        if self._handle is not None and self._display is not None:
            try:
                output = find_output(self._handle)
            except KmsError as error:
                self._drop(f"screen: {error}")
                return False
            if output == self._display.output:
                return False
            if output is None:
                self._drop("screen: no monitor")
                return False
            self._drop("")
        return self._open_first(seen)

    def _open_first(self, seen: list[Connector]) -> bool:
        cards = [self._card] if self._card else list(dict.fromkeys(c.card for c in seen))
        faults = []
        for card in cards:
            try:
                if self._open(card):
                    return True
            except KmsError as error:
                faults.append(str(error))
        if not cards:
            faults.append("no display hardware")
        self._set_fault(f"screen: {(faults or ['no monitor'])[0]}")
        return False

    def _open(self, card: str) -> bool:
        path = self._sys_root / card.lstrip("/")
        handle = self._open_handle(os.path.realpath(path))
        try:
            output = find_output(handle)
            display = Display(handle, output) if output is not None else None
        except KmsError:
            handle.close()
            raise
        if display is None:
            handle.close()
            return False
        self._handle, self._display = handle, display
        return True

    def _drop(self, fault: str) -> None:
        self.showing = False
        self._set_fault(fault)
        if self._display is not None:
            self._display.close()
            self._display = None
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _set_fault(self, fault: str) -> None:
        self._faults.log_transition(fault)
