"""The doctor's look at the screen, on made-up /sys and /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.devices import MODESET, check_screen

from ..board.trees import ORIN_NANO, build_jetson, write_files


def add_connector(root: Path, name: str, status: str, modes: str = "") -> None:
    folder = f"sys/class/drm/{name}"
    write_files(
        root,
        {
            f"{folder}/status": f"{status}\n",
            f"{folder}/modes": modes,
            f"dev/dri/{name.partition('-')[0]}": "",
        },
    )


def test_monitor(tmp_path: Path) -> None:
    """The connected ones, each with its preferred mode."""
    add_connector(tmp_path, "card0-HDMI-A-1", "connected", "1920x1080\n640x480\n")
    add_connector(tmp_path, "card0-DP-1", "disconnected")
    check = check_screen(tmp_path)
    assert check.state == "ok"
    assert check.message == "HDMI-A-1 1920x1080 on /dev/dri/card0"


def test_no_monitor(tmp_path: Path) -> None:
    """A kiosk may be set up without one; it is said where it would go."""
    add_connector(tmp_path, "card0-HDMI-A-1", "disconnected")
    add_connector(tmp_path, "card1-DP-1", "unknown")
    check = check_screen(tmp_path)
    assert (check.state, check.message) == ("warn", "no monitor connected to HDMI-A-1, DP-1")


def test_no_permission(tmp_path: Path) -> None:
    """With the command that helps."""
    add_connector(tmp_path, "card0-HDMI-A-1", "connected", "1920x1080\n")
    check = check_screen(tmp_path, may_open=lambda path: False)
    assert check.state == "fail"
    assert "no permission for /dev/dri/card0: sudo usermod -aG video $USER" in check.message


@pytest.mark.parametrize("render_only", [False, True])
def test_no_display(tmp_path: Path, render_only: bool) -> None:
    """A server is well, and so is a card that only computes."""
    if render_only:
        write_files(tmp_path, {"dev/dri/card0": "", "sys/class/drm/card0/dev": "226:0\n"})
    check = check_screen(tmp_path)
    assert (check.state, check.message) == ("ok", "no display hardware")


def test_jetson_without_modesetting(tmp_path: Path) -> None:
    """nvidia-drm shows no display device before it is told to."""
    check = check_screen(build_jetson(tmp_path, ORIN_NANO))
    assert (check.state, check.message) == ("warn", f"no display device: {MODESET}")
