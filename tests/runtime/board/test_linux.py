"""The sensors of a PC, on this machine and on synthetic trees of files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import psutil
import pytest

from emotion_edge.runtime.board.jetson import JetsonBoard
from emotion_edge.runtime.board.linux import PcBoard, read_governor
from emotion_edge.runtime.board.machine import describe_machine, open_board
from emotion_edge.runtime.board.status import Board
from emotion_edge.runtime.board.sysfs import READS_PER_DISCOVERY, Pressure, read_number
from emotion_edge.runtime.clock import FakeClock

from .trees import (
    CPU,
    INVALID_READINGS,
    JETPACK_7,
    MODULES,
    break_half,
    build_jetson,
    build_pc,
    make_unreadable,
    move_hwmon,
    set_pressure,
    write_files,
)

SECOND = 1_000_000_000


def test_this_machine_can_be_read() -> None:
    """Every number is plausible on any machine."""
    board = open_board()
    for status in (board.read(), board.read()):
        assert 0 <= status.cpu_percent <= 100
        assert status.memory_available_mb > 0
        assert 10 < status.rss_mb < 100_000
        assert status.temperature_c is None or -40 < status.temperature_c < 150
        assert status.cpu_freq_mhz is None or 0 <= status.cpu_freq_mhz <= 10_000
        for pressure in (status.cpu_pressure, status.memory_pressure):
            assert pressure is None or 0 <= pressure <= 1


def test_pc_board_readings(tmp_path: Path) -> None:
    """Zones are named, a second one of a name is numbered, and the disk's sensor is not read."""
    status = PcBoard(build_pc(tmp_path), FakeClock()).read()
    assert status.temperatures_c == {
        "acpitz": 27.8,
        "x86_pkg_temp": 52.0,
        "acpitz 2": 69.8,
        "coretemp Package id 0": 51.0,
        "coretemp Core 0": 53.5,
    }
    assert status.temperature_c == 53.5
    assert status.cpu_governor == "schedutil"
    assert status.cpu_freq_mhz == 2400
    assert status.cpu_pressure == 0.125
    assert status.memory_pressure == 0
    assert status.throttle_events == {"thermal": 7}
    assert (status.power_mw, status.gpu_load_percent, status.power_mode) == (None, None, None)


def test_failing_sensor_is_omitted(tmp_path: Path) -> None:
    """A zone that is off gives an error or nonsense, which raise no exception."""
    zone = "sys/class/thermal/thermal_zone0"
    write_files(tmp_path, {f"{zone}/type": "CPU-therm\n", f"{zone}/temp": "45000\n"})
    board = PcBoard(tmp_path)
    assert board.read().temperature_c == 45.0
    for invalid in (*INVALID_READINGS, b"-40001", b"150001"):
        (tmp_path / zone / "temp").write_bytes(invalid)
        assert board.read().temperature_c is None
    (tmp_path / zone / "temp").unlink()
    assert board.read().temperature_c is None
    write_files(tmp_path, {f"{zone}/temp": "-40000\n"})
    assert board.read().temperature_c == -40


def test_zones_are_ordered_by_number(tmp_path: Path) -> None:
    """Zone 10 follows zone 2. Zones without a valid name are omitted."""
    zones = {2: "acpitz", 10: "acpitz", 3: "x" * 129, 4: "two\nlines", 5: ""}
    for number, name in zones.items():
        zone = f"sys/class/thermal/thermal_zone{number}"
        write_files(tmp_path, {f"{zone}/type": f"{name}\n", f"{zone}/temp": f"{number}000\n"})
    write_files(tmp_path, {"sys/class/thermal/cooling_device0/type": "Fan\n"})
    assert PcBoard(tmp_path).read().temperatures_c == {"acpitz": 2, "acpitz 2": 10}


def test_blocking_sensor_is_omitted(tmp_path: Path) -> None:
    """An Orin's zone that is off returns EAGAIN, like an empty pipe."""
    os.mkfifo(tmp_path / "temp")
    assert read_number(str(tmp_path / "temp"), 0, 1) is None
    both = os.open(tmp_path / "temp", os.O_RDWR)
    try:
        assert read_number(str(tmp_path / "temp"), 0, 1) is None
    finally:
        os.close(both)


def test_offline_core_is_not_counted(tmp_path: Path) -> None:
    """The mean clock rate is that of the online cores."""
    board = PcBoard(build_pc(tmp_path))
    file = tmp_path / CPU / "cpu1/cpufreq/scaling_cur_freq"
    file.write_text("1400000\n")
    assert board.read().cpu_freq_mhz == 1900
    make_unreadable(file)
    assert board.read().cpu_freq_mhz == 2400
    file.rmdir()
    file.write_text("10000001\n")  # above 10 GHz
    assert board.read().cpu_freq_mhz == 2400


def test_sensor_is_rediscovered(tmp_path: Path) -> None:
    """A monitor with a new number is found by the next search, and not before."""
    board = PcBoard(build_pc(tmp_path))
    assert "coretemp Core 0" in board.read().temperatures_c
    move_hwmon(tmp_path, "sys/devices/platform/coretemp.0", 7)
    for _ in range(READS_PER_DISCOVERY - 1):
        assert board.read().temperature_c == 52.0  # of the zone, which has not moved
    assert board.read().temperature_c == 53.5


def test_renumbered_sensor_is_not_read(tmp_path: Path) -> None:
    """When two monitors swap numbers, the disk's 91 degrees are never the processor's."""
    board = PcBoard(build_pc(tmp_path))
    move_hwmon(tmp_path, "sys/devices/platform/coretemp.0", 9)
    move_hwmon(tmp_path, "sys/devices/pci0000:00/nvme0", 3)
    assert {board.read().temperature_c for _ in range(2 * READS_PER_DISCOVERY)} == {52.0, 53.5}


def test_pressure_between_readings(tmp_path: Path) -> None:
    """First the kernel's mean, then the counter's increase over the elapsed time."""
    clock = FakeClock(5 * SECOND)
    board = PcBoard(build_pc(tmp_path), clock)
    assert board.read().cpu_pressure == 0.125
    clock.advance(SECOND // 2)
    set_pressure(tmp_path, 5_100_000, avg10=99)
    assert board.read().cpu_pressure == pytest.approx(0.2)
    clock.advance(SECOND)
    assert board.read().cpu_pressure == 0


def test_pressure_with_an_invalid_counter(tmp_path: Path) -> None:
    """A counter that decreases, disappears or grows too fast gives a share of time or None."""
    clock = FakeClock()
    pressure = Pressure(str(tmp_path / "proc/pressure/cpu"), clock)
    assert pressure.read() is None
    set_pressure(tmp_path, 1_000_000, avg10=3)
    assert pressure.read() == 0.03
    assert pressure.read() == 0.03  # at the same time
    clock.advance(SECOND)
    set_pressure(tmp_path, 10, avg10=4)  # decreased
    assert pressure.read() == 0.04
    clock.advance(SECOND)
    set_pressure(tmp_path, 1_000_100)  # slightly more than the elapsed time
    assert pressure.read() == 1
    clock.advance(SECOND)
    set_pressure(tmp_path, 10**18)
    assert pressure.read() is None
    set_pressure(tmp_path, 2_000_000, avg10=5)
    assert pressure.read() == 0.05
    for invalid in INVALID_READINGS:
        (tmp_path / "proc/pressure/cpu").write_bytes(invalid)
        assert pressure.read() is None
    clock.advance(SECOND)
    set_pressure(tmp_path, 2_500_000, avg10=6)  # no reading before it, as at first
    assert pressure.read() == 0.06


def test_load_without_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """When /proc cannot be opened, the last reading is repeated."""
    board = open_board("pc")
    before = board.read()

    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(psutil, "cpu_percent", fail)
    monkeypatch.setattr(psutil, "virtual_memory", fail)
    assert board.read().rss_mb == before.rss_mb
    assert board.read().cpu_percent == before.cpu_percent


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tree", [*MODULES, "pc"])
def test_half_of_the_files_fail(tmp_path: Path, tree: str, seed: int) -> None:
    """Nothing raises, and every value is that of a healthy board or absent."""

    def build(root: Path) -> Path:
        return build_pc(root) if tree == "pc" else build_jetson(root, MODULES[tree], JETPACK_7)

    def open_tree(root: Path) -> Board:
        return PcBoard(root, FakeClock()) if tree == "pc" else JetsonBoard(root, FakeClock())

    healthy = open_tree(build(tmp_path / "healthy")).read()
    broken = build(tmp_path / "broken")
    opened_before = open_tree(broken)
    assert break_half(broken, seed) > 10
    for board in (opened_before, open_tree(broken)):
        for _ in range(READS_PER_DISCOVERY + 2):  # includes a new search
            status = board.read()
        assert set(status.temperatures_c.values()) <= set(healthy.temperatures_c.values())
        assert set(status.power_rails_mw.values()) <= set(healthy.power_rails_mw.values())
        for name in ("cpu_freq_mhz", "gpu_load_percent", "gpu_freq_mhz", "power_mw"):
            number = getattr(status, name)
            assert number is None or number == pytest.approx(getattr(healthy, name))
        for name in ("cpu_pressure", "memory_pressure"):  # 0: the counter has not grown
            assert getattr(status, name) in (None, 0, getattr(healthy, name))
        assert status.nvmap_used_mb in (None, healthy.nvmap_used_mb)
        assert status.throttle_events.keys() <= healthy.throttle_events.keys()
        for cause, count in status.throttle_events.items():
            assert count <= healthy.throttle_events[cause]
    json.dumps(describe_machine(broken))


def test_governor(tmp_path: Path) -> None:
    """None where the system has none."""
    assert read_governor(tmp_path) is None
    assert PcBoard(tmp_path).read().cpu_governor is None
    governor = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    write_files(tmp_path, {governor: "schedutil\n"})
    assert read_governor(tmp_path) == "schedutil"
    assert PcBoard(tmp_path).read().cpu_governor == "schedutil"
