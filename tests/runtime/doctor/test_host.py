"""The doctor's look at the board, shown healthy and troubled ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.runtime.board.jetson import THROTTLE_FILES
from emotion_edge.runtime.doctor import report
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.host import CAUSES, check_board

from ..board.trees import (
    AGX_ORIN,
    CPU,
    JETPACK_7,
    ORIN_NANO,
    THROTTLING,
    build_jetson,
    build_pc,
    make_unreadable,
)


def test_healthy_jetson(tmp_path: Path) -> None:
    """Board, JetPack, power mode, hottest zone; a disk's 92 °C are none of it."""
    assert check_board(build_jetson(tmp_path, AGX_ORIN, JETPACK_7)) == Check(
        "board",
        "ok",
        "NVIDIA Jetson AGX Orin Developer Kit, JetPack 7.2 (L4T 39.2), power mode MAXN,"
        " tj-thermal 51 °C",
    )


def test_power_mode_that_may_not_be_read(tmp_path: Path) -> None:
    """Said, and no reason to worry."""
    root = build_jetson(tmp_path, ORIN_NANO)
    make_unreadable(root / "var/lib/nvpmodel/status")
    check = check_board(root)
    assert check.state == "ok"
    assert "power mode unknown, /var/lib/nvpmodel/status cannot be read" in check.message


@pytest.mark.parametrize(("cause", "file"), THROTTLE_FILES.items())
def test_throttled_jetson(tmp_path: Path, cause: str, file: str) -> None:
    """Each counter has its cause and what to do about it."""
    root = build_jetson(tmp_path, ORIN_NANO)
    (folder,) = (root / THROTTLING / "hwmon").iterdir()
    (folder / file).write_text("2\n")
    check = check_board(root)
    assert check.state == "warn"
    assert check.message == f"slowed down 2x since it was started ({cause}): {CAUSES[cause]}"


@pytest.mark.parametrize(("millidegrees", "state"), [(85_000, "ok"), (85_100, "warn")])
def test_hot_jetson(tmp_path: Path, millidegrees: int, state: str) -> None:
    """The hottest zone is named."""
    root = build_jetson(tmp_path, ORIN_NANO)
    (root / "sys/class/thermal/thermal_zone1/temp").write_text(f"{millidegrees}\n")
    check = check_board(root)
    assert check.state == state
    assert "gpu-thermal" in check.message


def test_pc(tmp_path: Path) -> None:
    """One that was too hot, and one that was not."""
    root = build_pc(tmp_path)
    throttled = check_board(root)
    assert throttled.state == "warn"
    assert throttled.message.startswith("slowed down 7x since it was started (thermal): ")
    for core in (0, 1):
        (root / CPU / f"cpu{core}/thermal_throttle/core_throttle_count").write_text("0\n")
    assert check_board(root) == Check("board", "ok", "Some CPU @ 2 GHz, coretemp Core 0 54 °C")


def test_machine_without_sensors(tmp_path: Path) -> None:
    """A container without sensors is well."""
    assert check_board(tmp_path).state == "ok"


def test_doctor_checks_the_board(tmp_path: Path) -> None:
    """It is one of its checks."""
    root = build_jetson(tmp_path, ORIN_NANO)
    checks = report.run_checks(tmp_path, sys_root=root, environment={})
    found = {check.name: check for check in checks}
    assert "power mode MAXN_SUPER" in found["board"].message
