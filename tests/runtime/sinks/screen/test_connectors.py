"""Sockets for monitors, from made-up /sys folders."""

from __future__ import annotations

from pathlib import Path

from emotion_edge.runtime.sinks.screen.hotplug import Connector, list_connectors

from ...board.trees import make_unreadable, write_files


def test_cards_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """What is no connector, and one that writes to memory, is left out."""
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


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """The connector is there, and nothing is known of it."""
    folder = tmp_path / "sys/class/drm/card0-HDMI-A-1"
    make_unreadable(folder / "status")
    assert list_connectors(tmp_path) == [Connector("/dev/dri/card0", "HDMI-A-1", "", ())]
    assert list_connectors(tmp_path / "nowhere") == []
