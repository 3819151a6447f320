"""A monitor that is unplugged and plugged in again, on a fake kernel driver."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.sinks.screen import drm_uapi as abi
from emotion_edge.runtime.sinks.screen.display import Rect
from emotion_edge.runtime.sinks.screen.hotplug import (
    POLL_NS,
    PROBE_NS,
    Connector,
    HotplugDisplay,
    list_connectors,
)

from ...board.trees import make_unreadable, write_files
from .fake_card import CARD, FakeCard, make_mode


class Kiosk:
    """A display on a fake card, with a fake clock."""

    def __init__(self, root: Path, card: str = "") -> None:
        self.card = FakeCard(root)
        self.display = HotplugDisplay(card, root, self.card.open)
        self.now_ns = 0

    def poll(self, after_ns: int = POLL_NS) -> bool:
        self.now_ns += after_ns
        return self.display.poll(self.now_ns)

    def show(self) -> None:
        size = self.display.size
        assert size is not None
        self.display.show(np.full(size[::-1], 0x123456, np.uint32), [Rect(0, 0, *size)])


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path)


@pytest.mark.parametrize("card", ["", CARD])
def test_monitor_at_the_start(tmp_path: Path, card: str) -> None:
    """It is found by the first poll, and `showing` is true after the first `show`."""
    kiosk = Kiosk(tmp_path, card)
    assert not kiosk.display.showing
    assert kiosk.poll()
    assert kiosk.display.size == (1280, 720)
    assert not kiosk.display.showing
    kiosk.show()
    assert (kiosk.display.showing, kiosk.display.fault) == (True, "")
    assert not kiosk.poll()


def test_boot_without_monitor(kiosk: Kiosk) -> None:
    """The card stays closed meanwhile, so a console may use it."""
    kiosk.card.unplug()
    assert not kiosk.poll()
    assert (kiosk.display.fault, kiosk.display.size) == ("screen: no monitor", None)
    assert kiosk.card.num_open == 0
    kiosk.card.plug()
    assert kiosk.poll()
    kiosk.show()
    assert kiosk.display.fault == ""


def test_boot_without_a_card(tmp_path: Path) -> None:
    """A card that appears later is used."""
    display = HotplugDisplay("", tmp_path)
    assert not display.poll(0)
    assert display.fault == "screen: no display hardware"
    card = FakeCard(tmp_path)
    display = HotplugDisplay("", tmp_path, card.open)
    assert display.poll(POLL_NS)


def test_named_card_that_is_missing(tmp_path: Path) -> None:
    """It is a fault, not an error."""
    display = HotplugDisplay("/dev/dri/card7", tmp_path)
    assert not display.poll(0)
    assert "card7" in display.fault


@pytest.mark.parametrize("card", ["HDMI", "/dev/dri/renderD128", "/dev/fb0", "/dev/dri/card"])
def test_invalid_card(card: str) -> None:
    """A name that no card can have is a usage error."""
    with pytest.raises(ValueError, match=card):
        HotplugDisplay(card)


def test_monitor_is_replaced(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    """Unplugged, and back with another mode: two log lines."""
    caplog.set_level(logging.WARNING)
    kiosk.poll()
    kiosk.show()
    kiosk.card.unplug()
    assert not kiosk.poll()
    assert (kiosk.display.showing, kiosk.display.size) == (False, None)
    assert kiosk.display.fault == "screen: no monitor"
    assert kiosk.card.num_open == 0
    kiosk.poll()
    kiosk.card.plug(make_mode(1920, 1080, preferred=True))
    assert kiosk.poll()
    kiosk.show()
    assert (kiosk.card.lit, kiosk.display.showing) == ((1920, 1080), True)
    assert len(caplog.messages) == 2
    assert all(kiosk.card.black_at_release)


def test_monitor_is_replaced_between_polls(kiosk: Kiosk) -> None:
    kiosk.poll()
    kiosk.show()
    kiosk.card.plug(make_mode(800, 480, preferred=True))
    assert kiosk.poll()
    assert kiosk.display.size == (800, 480)
    assert kiosk.card.num_open == 1


def test_driver_that_reports_no_hotplug_is_probed(kiosk: Kiosk) -> None:
    """Less often than /sys is read, which such a driver does not update."""
    kiosk.poll()
    kiosk.show()
    kiosk.card.plugged = False
    assert not kiosk.poll()
    assert kiosk.display.showing
    kiosk.poll(PROBE_NS)
    assert kiosk.display.fault == "screen: no monitor"
    kiosk.card.plugged = True
    assert not kiosk.poll()
    assert kiosk.poll(PROBE_NS)


def test_poll_between_periods_reads_nothing(kiosk: Kiosk) -> None:
    """Called with every frame, it probes the driver once in five seconds."""
    kiosk.poll()
    kiosk.show()
    probes = kiosk.card.count(abi.GETRESOURCES)
    for _ in range(40):
        kiosk.poll(POLL_NS // 10)
    assert kiosk.card.count(abi.GETRESOURCES) == probes


def test_another_program_has_the_display(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again every second and logged once."""
    caplog.set_level(logging.WARNING)
    kiosk.card.master_elsewhere = True
    for _ in range(3):
        assert kiosk.poll()
        kiosk.show()
        assert CARD in kiosk.display.fault
        assert kiosk.card.num_open == 0
    kiosk.card.master_elsewhere = False
    kiosk.poll()
    kiosk.show()
    assert kiosk.display.showing
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("number", [abi.PAGE_FLIP, abi.GETCONNECTOR])
def test_driver_fails(kiosk: Kiosk, number: int) -> None:
    """At any moment: the display is opened again."""
    kiosk.poll()
    kiosk.show()
    kiosk.card.failing[number] = errno.EIO
    kiosk.poll(PROBE_NS)
    if kiosk.display.size:
        kiosk.show()
    assert CARD in kiosk.display.fault
    assert (kiosk.display.showing, kiosk.card.num_open) == (False, 0)
    kiosk.card.failing.clear()
    assert kiosk.poll(PROBE_NS)
    kiosk.show()
    assert kiosk.display.showing


def test_close(kiosk: Kiosk) -> None:
    """The device is closed and its buffers are black; a second close is harmless."""
    kiosk.poll()
    kiosk.show()
    kiosk.display.close()
    kiosk.display.close()
    assert (kiosk.display.showing, kiosk.card.num_open) == (False, 0)
    assert kiosk.card.black_at_release == [True, True]


def test_cards_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Without other entries, and without a connector that writes to memory."""
    drm = "sys/class/drm"
    write_files(
        tmp_path,
        {
            f"{drm}/card10-DP-1/status": "disconnected\n",
            f"{drm}/card10-DP-1/modes": "",
            f"{drm}/card2-HDMI-A-1/status": "connected\n",
            f"{drm}/card2-HDMI-A-1/modes": "1920x1080\n1280x720\n",
            f"{drm}/card2-Writeback-1/status": "unknown\n",
            f"{drm}/card2/dev": "226:2\n",
            f"{drm}/renderD128/dev": "226:128\n",
            f"{drm}/version": "drm 1.1.0\n",
        },
    )
    assert list_connectors(tmp_path) == [
        Connector("/dev/dri/card2", "HDMI-A-1", "connected", ("1920x1080", "1280x720")),
        Connector("/dev/dri/card10", "DP-1", "disconnected", ()),
    ]


def test_unreadable_connector_is_listed(tmp_path: Path) -> None:
    """Without status and modes."""
    folder = tmp_path / "sys/class/drm/card0-HDMI-A-1"
    make_unreadable(folder / "status")
    assert list_connectors(tmp_path) == [Connector("/dev/dri/card0", "HDMI-A-1", "", ())]
    assert list_connectors(tmp_path / "nowhere") == []
