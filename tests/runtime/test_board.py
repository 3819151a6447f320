"""Sensors, on this machine and on made-up trees of files."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import pytest

from emotion_edge.runtime.board import PcBoard, describe_machine, open_board, read_governor


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_this_machine_can_be_read() -> None:
    """Every number makes sense wherever the tests run."""
    status = open_board().read()
    assert 0 <= status.cpu_percent <= 100
    assert status.memory_available_mb > 0
    assert 10 < status.rss_mb < 100_000
    assert status.temperature_c is None or -40 < status.temperature_c < 150


def test_hottest_processor_sensor_counts(tmp_path: Path) -> None:
    """Sensors are known by name: a disk's is not the processor's."""
    write_files(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/name": "nvme\n",
            "sys/class/hwmon/hwmon0/temp1_input": "91000\n",
            "sys/class/hwmon/hwmon3/name": "coretemp\n",
            "sys/class/hwmon/hwmon3/temp1_input": "51000\n",
            "sys/class/hwmon/hwmon3/temp2_input": "53500\n",
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
            "sys/class/thermal/thermal_zone0/temp": "52000\n",
            "sys/class/thermal/thermal_zone1/type": "iwlwifi_1\n",
            "sys/class/thermal/thermal_zone1/temp": "80000\n",
        },
    )
    assert PcBoard(tmp_path).read().temperature_c == 53.5


def test_sensor_that_fails_is_left_out(tmp_path: Path) -> None:
    """A zone that is switched off gives an error or nonsense, and no exception."""
    zone = "sys/class/thermal/thermal_zone0"
    write_files(tmp_path, {f"{zone}/type": "CPU-therm\n", f"{zone}/temp": "45000\n"})
    board = PcBoard(tmp_path)
    assert board.read().temperature_c == 45.0
    write_files(tmp_path, {f"{zone}/temp": "N/A\n"})
    assert board.read().temperature_c is None
    (tmp_path / zone / "temp").unlink()
    assert board.read().temperature_c is None


def test_governor(tmp_path: Path) -> None:
    """Read where the system shows it, None where it does not."""
    assert read_governor(tmp_path) is None
    assert PcBoard(tmp_path).read().cpu_governor is None
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    write_files(tmp_path, {governor: "schedutil\n"})
    assert read_governor(tmp_path) == "schedutil"
    assert PcBoard(tmp_path).read().cpu_governor == "schedutil"


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"}, "Some CPU @ 2 GHz"),
        ({"proc/device-tree/model": "A small board\0"}, "A small board"),
    ],
)
def test_processor_has_a_name(tmp_path: Path, files: dict[str, str], model: str) -> None:
    """From cpuinfo on a PC, from the device tree on a board."""
    write_files(tmp_path, files)
    assert describe_machine(tmp_path)["cpu"] == model


def test_description_names_nobody() -> None:
    """It goes into published records: JSON, without the machine's or the user's name."""
    text = json.dumps(describe_machine())
    assert platform.python_version() in text
    for name in (platform.node(), getpass.getuser()):
        assert f'"{name}"' not in text


def test_unknown_board_is_refused() -> None:
    """An explicit name works or raises."""
    with pytest.raises(ValueError, match="board 'toaster' is not one of: auto, pc"):
        open_board("toaster")
