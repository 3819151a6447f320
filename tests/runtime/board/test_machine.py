"""The detection of the board, and the description of the machine."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import pytest

from emotion_edge.runtime.board.jetson import JetsonBoard
from emotion_edge.runtime.board.linux import PcBoard
from emotion_edge.runtime.board.machine import describe_machine, open_board

from .trees import AGX_ORIN, CPU, JETPACK_7, ORIN_NANO, build_jetson, build_pc, write_files


def test_board_is_detected(tmp_path: Path) -> None:
    """A Jetson by NVIDIA's release file, or by the device tree, which a container has too."""
    assert isinstance(open_board("auto", build_pc(tmp_path / "pc")), PcBoard)
    jetson = build_jetson(tmp_path / "jetson", ORIN_NANO)
    assert isinstance(open_board("auto", jetson), JetsonBoard)
    assert isinstance(open_board("jetson", jetson), JetsonBoard)
    assert isinstance(open_board("pc", jetson), PcBoard)
    tree = jetson / "proc/device-tree/compatible"
    tree.rename(tree.with_name("away"))
    assert isinstance(open_board("auto", jetson), JetsonBoard)
    tree.with_name("away").rename(tree)
    (jetson / "etc/nv_tegra_release").unlink()
    assert isinstance(open_board("auto", jetson), JetsonBoard)


def test_unknown_board_is_refused(tmp_path: Path) -> None:
    """So is a Jetson on another machine."""
    for name in ("toaster", "jetson"):
        with pytest.raises(ValueError, match=f"^board '{name}'"):
            open_board(name, build_pc(tmp_path / name))


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"}, "Some CPU @ 2 GHz"),
        ({"proc/device-tree/model": "A small board\0"}, "A small board"),
    ],
)
def test_processor_has_a_name(tmp_path: Path, files: dict[str, str], model: str) -> None:
    """From cpuinfo on a PC, and from the device tree on a board."""
    write_files(tmp_path, files)
    assert describe_machine(tmp_path)["cpu"] == model


def test_description_of_a_jetson(tmp_path: Path) -> None:
    """Board, JetPack, power mode and clock rates."""
    root = build_jetson(tmp_path, AGX_ORIN, JETPACK_7)
    record = describe_machine(root)
    assert record["board"] == record["cpu"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (record["l4t"], record["jetpack"], record["power_mode"]) == (
        "39.2",
        "7.2",
        "MAXN",
    )
    assert record["cpu_freq_mhz"] == [1190.4] * 12
    assert record["cpu_max_freq_mhz"] == 1728
    assert record["gpu_max_freq_mhz"] == 1020
    (root / CPU / "cpu0/cpufreq/scaling_cur_freq").unlink()
    assert describe_machine(root)["cpu_freq_mhz"] == [1190.4] * 11


def test_description_of_a_pc(tmp_path: Path) -> None:
    """Clock rates, and None for everything that only a Jetson has."""
    record = describe_machine(build_pc(tmp_path))
    assert record["cpu_freq_mhz"] == [2400, 2400]
    assert record["cpu_max_freq_mhz"] == 4200
    for name in ("board", "jetpack", "l4t", "power_mode", "gpu_max_freq_mhz"):
        assert record[name] is None


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081", "36.4.3", "6.2"),
        ("# R36 (release), REVISION: 4.0, GCID: 37537400", "36.4", "6.1"),
        ("# R39 (release), REVISION: 2.1, GCID: 46758480", "39.2.1", "7.2.1"),
        ("# R40 (release), REVISION: 1.0, GCID: 1", "40.1", "L4T 40.1"),
        ("something else", None, None),
    ],
)
def test_jetpack(tmp_path: Path, release: str, l4t: str | None, jetpack: str | None) -> None:
    """By its L4T; an unknown L4T is returned itself."""
    write_files(tmp_path, {"etc/nv_tegra_release": release + "\n"})
    record = describe_machine(tmp_path)
    assert (record["l4t"], record["jetpack"]) == (l4t, jetpack)


def test_description_has_no_personal_data() -> None:
    """It is published as JSON: without the names of the machine and of the user."""
    text = json.dumps(describe_machine())
    assert platform.python_version() in text
    for name in (platform.node(), getpass.getuser()):
        assert f'"{name}"' not in text
