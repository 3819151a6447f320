"""A monitor that comes and goes, on a stand-in for the kernel's display driver."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.sinks.screen import drm_uapi as abi
from emotion_edge.runtime.sinks.screen.display import Rect
from emotion_edge.runtime.sinks.screen.hotplug import POLL_NS, PROBE_NS, HotplugDisplay

from .fake_card import CARD, FakeCard, make_mode


class Kiosk:
    """A display on a fake card, and the time."""

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
def test_monitor_that_is_there(tmp_path: Path, card: str) -> None:
    """It is found at the first look; it counts as showing with its first picture."""
    kiosk = Kiosk(tmp_path, card)
    assert not kiosk.display.showing
    assert kiosk.poll()
    assert kiosk.display.size == (1280, 720)
    assert not kiosk.display.showing
    kiosk.show()
    assert (kiosk.display.showing, kiosk.display.fault) == (True, "")
    assert not kiosk.poll()


def test_boot_without_monitor(kiosk: Kiosk) -> None:
    """No card is held meanwhile: a console may use it."""
    kiosk.card.unplug()
    assert not kiosk.poll()
    assert (kiosk.display.fault, kiosk.display.size) == ("screen: no monitor", None)
    assert kiosk.card.num_open == 0
    kiosk.card.plug()
    assert kiosk.poll()
    kiosk.show()
    assert kiosk.display.fault == ""


def test_boot_without_a_card(tmp_path: Path) -> None:
    """Nothing at all: one that appears later is used."""
    display = HotplugDisplay("", tmp_path)
    assert not display.poll(0)
    assert display.fault == "screen: no display hardware"
    card = FakeCard(tmp_path)
    display = HotplugDisplay("", tmp_path, card.open)
    assert display.poll(POLL_NS)


def test_named_card_that_is_missing(tmp_path: Path) -> None:
    """It is waited for."""
    display = HotplugDisplay("/dev/dri/card7", tmp_path)
    assert not display.poll(0)
    assert "card7 cannot be opened: No such file or directory" in display.fault


@pytest.mark.parametrize("card", ["HDMI", "/dev/dri/renderD128", "/dev/fb0", "/dev/dri/card"])
def test_no_card_at_all(card: str) -> None:
    """A name that no card can have is the user's mistake."""
    with pytest.raises(ValueError, match=r"is no display card: it is called /dev/dri/cardN"):
        HotplugDisplay(card)


def test_another_monitor_is_plugged_in(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    """Away, and back with another mode: two lines in the log."""
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
    assert caplog.messages == ["screen: no monitor", "screen is back"]
    assert all(kiosk.card.black_at_release)


def test_mode_that_changes_in_between(kiosk: Kiosk) -> None:
    """A monitor that was exchanged between two looks."""
    kiosk.poll()
    kiosk.show()
    kiosk.card.plug(make_mode(800, 480, preferred=True))
    assert kiosk.poll()
    assert kiosk.display.size == (800, 480)
    assert kiosk.card.num_open == 1


def test_driver_that_reports_no_hotplug_is_probed(kiosk: Kiosk) -> None:
    """/sys stays as it was: the driver is asked all the same, less often."""
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
    """Called with every picture, it asks the driver once in five seconds."""
    kiosk.poll()
    kiosk.show()
    asked = kiosk.card.count(abi.GETRESOURCES)
    for _ in range(40):
        kiosk.poll(POLL_NS // 10)
    assert kiosk.card.count(abi.GETRESOURCES) == asked


def test_another_program_has_the_display(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again every second, and said once."""
    caplog.set_level(logging.WARNING)
    kiosk.card.master_elsewhere = True
    for _ in range(3):
        assert kiosk.poll()
        kiosk.show()
        assert kiosk.display.fault == f"screen: another program has {CARD}"
        assert kiosk.card.num_open == 0
    kiosk.card.master_elsewhere = False
    kiosk.poll()
    kiosk.show()
    assert kiosk.display.showing
    assert len(caplog.messages) == 2


def test_other_cause_is_said(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    """No monitor, and when there is one it may not be used: once each."""
    caplog.set_level(logging.WARNING)
    kiosk.card.unplug()
    faults = []
    for may_open in (True, True, False, False):
        kiosk.card.may_open = may_open
        kiosk.poll(PROBE_NS)
        faults.append(kiosk.display.fault)
    assert caplog.messages == [faults[0], faults[2]]
    assert faults[0] != faults[2]


def test_no_permission(kiosk: Kiosk) -> None:
    """The group is named."""
    kiosk.card.may_open = False
    assert not kiosk.poll()
    assert kiosk.display.fault == f"screen: no permission for {CARD}: join group video"


@pytest.mark.parametrize("number", [abi.PAGE_FLIP, abi.GETCONNECTOR])
def test_failure_while_it_shows(kiosk: Kiosk, number: int) -> None:
    """Of the driver, at a moment of its choice: everything is opened anew."""
    kiosk.poll()
    kiosk.show()
    kiosk.card.failing[number] = errno.EIO
    kiosk.poll(PROBE_NS)
    if kiosk.display.size:
        kiosk.show()
    assert kiosk.display.fault == f"screen: {CARD} failed: told to fail"
    assert (kiosk.display.showing, kiosk.card.num_open) == (False, 0)
    kiosk.card.failing.clear()
    assert kiosk.poll(PROBE_NS)
    kiosk.show()
    assert kiosk.display.showing


def test_close(kiosk: Kiosk) -> None:
    """The device is given back, twice does no harm, and what it said before stays said."""
    kiosk.poll()
    kiosk.show()
    kiosk.display.close()
    kiosk.display.close()
    assert (kiosk.display.showing, kiosk.card.num_open) == (False, 0)
    assert kiosk.card.black_at_release == [True, True]
