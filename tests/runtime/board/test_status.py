"""What this machine is and says: on itself and on made-up trees of files."""

from __future__ import annotations

import getpass
import json
import os
import platform
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
    AGX_ORIN,
    CPU,
    INVALID_READINGS,
    JETPACK_7,
    MODULES,
    ORIN_NANO,
    break_half,
    build_jetson,
    build_pc,
    make_unreadable,
    move_hwmon,
    set_pressure,
    write_files,
)

S = 1_000_000_000


def test_this_machine_can_be_read() -> None:
    """Every number makes sense wherever the tests run."""
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
    """Zones by name, a second one of a name numbered; the disk's sensor is left alone."""
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


def test_sensor_that_fails_is_left_out(tmp_path: Path) -> None:
    """A zone that is switched off gives an error or nonsense, and no exception."""
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


def test_zones_are_counted_by_number(tmp_path: Path) -> None:
    """Zone 10 comes after zone 2, and one whose name is no name is left out."""
    zones = {2: "acpitz", 10: "acpitz", 3: "x" * 129, 4: "two\nlines", 5: ""}
    for number, name in zones.items():
        zone = f"sys/class/thermal/thermal_zone{number}"
        write_files(tmp_path, {f"{zone}/type": f"{name}\n", f"{zone}/temp": f"{number}000\n"})
    write_files(tmp_path, {"sys/class/thermal/cooling_device0/type": "Fan\n"})
    assert PcBoard(tmp_path).read().temperatures_c == {"acpitz": 2, "acpitz 2": 10}


def test_sensor_that_would_block_is_left_out(tmp_path: Path) -> None:
    """An Orin's zone that is switched off answers EAGAIN; so does a pipe that nobody fills."""
    os.mkfifo(tmp_path / "temp")
    assert read_number(str(tmp_path / "temp"), 0, 1) is None
    both = os.open(tmp_path / "temp", os.O_RDWR)
    try:
        assert read_number(str(tmp_path / "temp"), 0, 1) is None
    finally:
        os.close(both)


def test_core_that_is_offline_does_not_count(tmp_path: Path) -> None:
    """The mean clock rate is of the cores that answer, and of all again when they do."""
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
    """A monitor that comes back under another number is found, after a while and not before."""
    board = PcBoard(build_pc(tmp_path))
    assert "coretemp Core 0" in board.read().temperatures_c
    move_hwmon(tmp_path, "sys/devices/platform/coretemp.0", 7)
    for _ in range(READS_PER_DISCOVERY - 1):
        assert board.read().temperature_c == 52.0  # the zone's, which has not moved
    assert board.read().temperature_c == 53.5


def test_renumbered_sensor_is_not_read(tmp_path: Path) -> None:
    """When two monitors swap numbers, the disk's 91 degrees are at no time the processor's."""
    board = PcBoard(build_pc(tmp_path))
    move_hwmon(tmp_path, "sys/devices/platform/coretemp.0", 9)
    move_hwmon(tmp_path, "sys/devices/pci0000:00/nvme0", 3)
    assert {board.read().temperature_c for _ in range(2 * READS_PER_DISCOVERY)} == {52.0, 53.5}


def test_pressure_is_of_the_time_between_readings(tmp_path: Path) -> None:
    """The kernel's mean at first, then the counter's growth over the time that went by."""
    clock = FakeClock(5 * S)
    board = PcBoard(build_pc(tmp_path), clock)
    assert board.read().cpu_pressure == 0.125
    clock.advance(S // 2)
    set_pressure(tmp_path, 5_100_000, avg10=99)
    assert board.read().cpu_pressure == pytest.approx(0.2)
    clock.advance(S)
    assert board.read().cpu_pressure == 0


def test_pressure_survives_its_counter(tmp_path: Path) -> None:
    """Back, away, back again, too fast to be true: a share of the time or None, never nonsense."""
    clock = FakeClock()
    pressure = Pressure(str(tmp_path / "proc/pressure/cpu"), clock)
    assert pressure.read() is None
    set_pressure(tmp_path, 1_000_000, avg10=3)
    assert pressure.read() == 0.03
    assert pressure.read() == 0.03  # no time has gone by
    clock.advance(S)
    set_pressure(tmp_path, 10, avg10=4)  # went back
    assert pressure.read() == 0.04
    clock.advance(S)
    set_pressure(tmp_path, 1_000_100)  # a little more than there was
    assert pressure.read() == 1
    clock.advance(S)
    set_pressure(tmp_path, 10**18)
    assert pressure.read() is None
    set_pressure(tmp_path, 2_000_000, avg10=5)
    assert pressure.read() == 0.05
    for invalid in INVALID_READINGS:
        (tmp_path / "proc/pressure/cpu").write_bytes(invalid)
        assert pressure.read() is None
    clock.advance(S)
    set_pressure(tmp_path, 2_500_000, avg10=6)  # over a time that is not known: as at first
    assert pressure.read() == 0.06


def test_load_of_a_process_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """When /proc cannot be opened, what was read last stands."""
    board = open_board("pc")
    before = board.read()

    def fail() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(psutil, "cpu_percent", fail)
    monkeypatch.setattr(psutil, "virtual_memory", fail)
    assert board.read().rss_mb == before.rss_mb
    assert board.read().cpu_percent == before.cpu_percent


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tree", [*MODULES, "pc"])
def test_half_of_the_files_fail(tmp_path: Path, tree: str, seed: int) -> None:
    """Whatever fails: nothing raises, and what is said is what a healthy board says, or nothing."""

    def build(root: Path) -> Path:
        return build_pc(root) if tree == "pc" else build_jetson(root, MODULES[tree], JETPACK_7)

    def open_it(root: Path) -> Board:
        return PcBoard(root, FakeClock()) if tree == "pc" else JetsonBoard(root, FakeClock())

    healthy = open_it(build(tmp_path / "healthy")).read()
    broken = build(tmp_path / "broken")
    sooner = open_it(broken)
    assert break_half(broken, seed) > 10
    for board in (sooner, open_it(broken)):
        for _ in range(READS_PER_DISCOVERY + 2):  # so that it also looks for its sensors again
            status = board.read()
        assert set(status.temperatures_c.values()) <= set(healthy.temperatures_c.values())
        assert set(status.power_rails_mw.values()) <= set(healthy.power_rails_mw.values())
        for name in ("cpu_freq_mhz", "gpu_load_percent", "gpu_freq_mhz", "power_mw"):
            number = getattr(status, name)
            assert number is None or number == pytest.approx(getattr(healthy, name))
        for name in ("cpu_pressure", "memory_pressure"):  # 0: it has not grown since
            assert getattr(status, name) in (None, 0, getattr(healthy, name))
        assert status.nvmap_used_mb in (None, healthy.nvmap_used_mb)
        assert status.throttle_events.keys() <= healthy.throttle_events.keys()
        for cause, count in status.throttle_events.items():
            assert count <= healthy.throttle_events[cause]
    json.dumps(describe_machine(broken))


def test_board_is_the_machine(tmp_path: Path) -> None:
    """A Jetson by NVIDIA's release file, or by the device tree, which a container sees as well."""
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
    """An explicit name works or raises."""
    with pytest.raises(ValueError, match="board 'toaster' is not one of: auto, jetson, pc"):
        open_board("toaster")
    with pytest.raises(ValueError, match="board 'jetson': this machine is none: it has no /etc/nv"):
        open_board("jetson", build_pc(tmp_path))


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


def test_description_of_a_jetson(tmp_path: Path) -> None:
    """What numbers of a benchmark depend on: board, JetPack, power mode, clocks."""
    root = build_jetson(tmp_path, AGX_ORIN, JETPACK_7)
    said = describe_machine(root)
    assert said["board"] == said["cpu"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (said["l4t"], said["jetpack"], said["power_mode"]) == ("39.2", "7.2", "MAXN")
    assert said["cpu_freq_mhz"] == [1190.4] * 12
    assert said["cpu_max_freq_mhz"] == 1728
    assert said["gpu_max_freq_mhz"] == 1020
    (root / CPU / "cpu0/cpufreq/scaling_cur_freq").unlink()
    assert describe_machine(root)["cpu_freq_mhz"] == [1190.4] * 11


def test_description_of_a_pc(tmp_path: Path) -> None:
    """Clocks, and None for all that only a Jetson has."""
    said = describe_machine(build_pc(tmp_path))
    assert said["cpu_freq_mhz"] == [2400, 2400]
    assert said["cpu_max_freq_mhz"] == 4200
    for name in ("board", "jetpack", "l4t", "power_mode", "gpu_max_freq_mhz"):
        assert said[name] is None


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
    """Known by its L4T; one that is newer than this program is told as it is."""
    write_files(tmp_path, {"etc/nv_tegra_release": release + "\n"})
    said = describe_machine(tmp_path)
    assert (said["l4t"], said["jetpack"]) == (l4t, jetpack)


def test_description_has_no_personal_data() -> None:
    """It goes into published records: JSON, without the machine's or the user's name."""
    text = json.dumps(describe_machine())
    assert platform.python_version() in text
    for name in (platform.node(), getpass.getuser()):
        assert f'"{name}"' not in text
