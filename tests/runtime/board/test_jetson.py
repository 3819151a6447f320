"""The sensors of a Jetson, on synthetic trees of three modules and two JetPacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.runtime.board.jetson import (
    GPU_LOAD_FILES,
    JetsonBoard,
    find_power_modes,
    read_power_mode,
    read_power_mode_id,
)
from emotion_edge.runtime.board.machine import open_board
from emotion_edge.runtime.board.sysfs import READS_PER_DISCOVERY
from emotion_edge.runtime.clock import FakeClock

from .trees import (
    AGX_ORIN,
    GPU,
    I2C,
    INVALID_READINGS,
    JETPACK_6,
    JETPACK_7,
    MODULES,
    ORIN_NANO,
    ORIN_NX,
    THROTTLING,
    ZONES,
    Module,
    add_gpu_clock,
    build_jetson,
    make_unreadable,
    move_hwmon,
    remove,
    write_files,
)


def read_times(board: JetsonBoard, times: int) -> None:
    for _ in range(times):
        board.read()


@pytest.mark.parametrize("l4t", [JETPACK_6, JETPACK_7])
@pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))
def test_whole_reading(tmp_path: Path, module: Module, l4t: tuple[str, str]) -> None:
    """Every sensor in its unit, on each module and JetPack."""
    status = open_board("auto", build_jetson(tmp_path, module, l4t)).read()
    on = {name: t / 1000 for name, t in ZONES.items() if t is not None}
    assert status.temperatures_c == on
    assert status.temperature_c == 51.437
    assert status.cpu_freq_mhz == pytest.approx(1190.4)
    assert status.cpu_governor == "schedutil"
    assert status.cpu_pressure == 0
    assert status.gpu_load_percent == 43.7
    assert status.gpu_freq_mhz == 624.75
    assert status.power_mw == pytest.approx(module.power_mw)
    rails = [rail for chip in module.rails.values() for rail in chip if rail[0] != "NC"]
    assert status.power_rails_mw == {name: mv * ma / 1000 for name, mv, ma in rails}
    assert status.throttle_events == {
        "under-voltage": 0,
        "average over-current": 0,
        "instantaneous over-current": 0,
    }
    assert status.power_mode == module.modes[module.mode]
    assert status.nvmap_used_mb == 512
    assert status.rss_mb > 10


def test_each_counter_has_its_cause(tmp_path: Path) -> None:
    """The counters are returned as they are, within 32 bits."""
    board = JetsonBoard(build_jetson(tmp_path, ORIN_NX))
    (folder,) = (tmp_path / THROTTLING / "hwmon").iterdir()
    for number, count in ((1, "3"), (2, "15"), (3, "4294967295")):
        (folder / f"oc{number}_event_cnt").write_text(f"{count}\n")
    assert board.read().throttle_events == {
        "under-voltage": 3,
        "average over-current": 15,
        "instantaneous over-current": 2**32 - 1,
    }
    (folder / "oc3_event_cnt").write_text("4294967296\n")
    assert "instantaneous over-current" not in board.read().throttle_events


def test_monitors_change_numbers(tmp_path: Path) -> None:
    """When power and throttling swap theirs, both are absent for a while and never confused."""
    board = JetsonBoard(build_jetson(tmp_path, ORIN_NANO))
    healthy = board.read()
    (folder,) = (tmp_path / THROTTLING / "hwmon").iterdir()
    (folder / "oc1_event_cnt").write_text("1\n")
    move_hwmon(tmp_path, THROTTLING, 9)
    move_hwmon(tmp_path, f"{I2C}/1-0040", 3)
    for _ in range(READS_PER_DISCOVERY - 1):
        status = board.read()
        assert status.power_mw is None
        assert status.power_rails_mw == {}
        assert status.throttle_events == {}
    status = board.read()
    assert status.power_mw == healthy.power_mw
    assert status.throttle_events["under-voltage"] == 1


def test_searches_are_rare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor that responds is not searched again; a missing one, every 60 readings."""
    searches: list[str] = []

    def search(root: str) -> None:
        searches.append(root)

    root = build_jetson(tmp_path, ORIN_NANO)
    monkeypatch.setattr("emotion_edge.runtime.board.jetson.find_gpu_load", search)
    monkeypatch.setattr("emotion_edge.runtime.board.jetson.find_gpu_clock", lambda root: None)
    board = JetsonBoard(root)
    read_times(board, 3 * READS_PER_DISCOVERY + 5)
    assert len(searches) == 4
    monkeypatch.undo()
    (root / GPU / "load").unlink()
    board = JetsonBoard(root)
    write_files(root, {f"{GPU}/load": "7\n"})
    read_times(board, READS_PER_DISCOVERY + 1)  # a search has found it
    monkeypatch.setattr("emotion_edge.runtime.board.jetson.find_gpu_load", search)
    read_times(board, 2 * READS_PER_DISCOVERY)
    assert len(searches) == 4


def test_gpu_appears_late(tmp_path: Path) -> None:
    """JetPack 7 may start the program before the GPU's files exist."""
    root = build_jetson(tmp_path, AGX_ORIN, JETPACK_7)
    remove(root / "sys/class/devfreq/17000000.gpu")
    (root / GPU / "load").unlink()
    board = JetsonBoard(root)
    status = board.read()
    assert status.gpu_load_percent is status.gpu_freq_mhz is None
    write_files(root, {f"{GPU}/load": "1000\n"})
    add_gpu_clock(root)
    read_times(board, READS_PER_DISCOVERY)
    status = board.read()
    assert status.gpu_load_percent == 100
    assert status.gpu_freq_mhz == 624.75


@pytest.mark.parametrize("file", [*GPU_LOAD_FILES, "sys/class/devfreq/17000000.ga10b/device/load"])
def test_gpu_load_has_moved_between_releases(tmp_path: Path, file: str) -> None:
    """Each path that NVIDIA has used, beside an existing file without a number."""
    write_files(tmp_path, {"sys/devices/gpu.0/load": "N/A\n", file: "5\n"})
    assert JetsonBoard(tmp_path).read().gpu_load_percent == 0.5


@pytest.mark.parametrize("invalid", [*INVALID_READINGS, b"1001\n", b"-1\n", b"12.5\n"])
def test_gpu_load_out_of_range(tmp_path: Path, invalid: bytes) -> None:
    """Above 100 %, below 0, or no number."""
    board = JetsonBoard(build_jetson(tmp_path, ORIN_NANO))
    (tmp_path / GPU / "load").write_bytes(invalid)
    assert board.read().gpu_load_percent is None
    (tmp_path / GPU / "load").write_bytes(b"0\n")
    assert board.read().gpu_load_percent == 0


@pytest.mark.parametrize(("file", "value"), [("in3_input", "-8\n"), ("curr3_input", "100001\n")])
def test_total_needs_all_of_its_rails(tmp_path: Path, file: str, value: str) -> None:
    """A sum without one of its rails would be too low."""
    board = JetsonBoard(build_jetson(tmp_path, AGX_ORIN))
    (folder,) = (tmp_path / I2C / "1-0040/hwmon").iterdir()
    (folder / file).write_text(value)
    status = board.read()
    assert status.power_rails_mw.keys() == {"VDD_GPU_SOC", "VDD_CPU_CV", "VDDQ_VDD2_1V8AO"}
    assert status.power_mw is None


def test_gpu_clock_out_of_range(tmp_path: Path) -> None:
    """Above 10 GHz."""
    board = JetsonBoard(build_jetson(tmp_path, ORIN_NANO))
    clock = tmp_path / GPU / "devfreq/17000000.gpu/cur_freq"
    clock.write_text("10000000001\n")
    assert board.read().gpu_freq_mhz is None


def test_power_mode_follows_nvpmodel(tmp_path: Path) -> None:
    """The mode may change while the program runs. A mode without a name is a number."""
    assert read_power_mode(str(tmp_path)) is None
    board = JetsonBoard(build_jetson(tmp_path, ORIN_NANO))
    assert board.read().power_mode == "MAXN_SUPER"
    status = tmp_path / "var/lib/nvpmodel/status"
    status.write_text("pmode:0003")
    assert board.read().power_mode == "7W"
    status.write_text("pmode:0009")
    assert board.read().power_mode == read_power_mode(str(tmp_path)) == "mode 9"
    conf = tmp_path / "etc/nvpmodel.conf"
    conf.write_text(conf.read_text() + "< POWER_MODEL ID=9 NAME=KIOSK >\n")
    read_times(board, READS_PER_DISCOVERY)
    assert board.read().power_mode == "KIOSK"
    make_unreadable(status)
    assert board.read().power_mode is None
    assert read_power_mode(str(tmp_path)) is None


def test_power_modes_in_a_long_file(tmp_path: Path) -> None:
    """NVIDIA's file describes every parameter before the first mode."""
    parameters = "< PARAM TYPE=FILE NAME=CPU_ONLINE >\n" * 2000
    write_files(tmp_path, {"etc/nvpmodel.conf": parameters + "< POWER_MODEL ID=0 NAME=MAXN >\n"})
    assert find_power_modes(str(tmp_path)) == {0: "MAXN"}


@pytest.mark.parametrize(
    ("status", "mode"),
    [
        ("pmode:0010", 10),
        ("pmode:00010\n", 10),
        ("pmode:0002 fmode:fan_mode_quiet\n", 2),
        ("fmode:quiet pmode:0012\n", 12),
        ("pmode: 1\n", 1),
        ("pmode:123456789", 123456789),
        ("pmode:" + "9" * 4000, None),
        ("pmode:\n", None),
        ("pmode:-1\n", None),
        ("pmode:10x\n", None),
        ("nopmode:0001\n", None),
    ],
)
def test_number_of_the_power_mode(tmp_path: Path, status: str, mode: int | None) -> None:
    """All of its digits or none, whatever surrounds them."""
    write_files(tmp_path, {"var/lib/nvpmodel/status": status})
    assert read_power_mode_id(str(tmp_path)) == mode


def test_names_of_power_modes(tmp_path: Path) -> None:
    """With blanks inside and around; without comments, and without too long a number."""
    text = (
        "< POWER_MODEL ID=1 NAME=15W >\n"
        "# < POWER_MODEL ID=2 NAME=OLD >\n"
        "  <POWER_MODEL  ID=0010  NAME=Kiosk at  night>\r\n"
        "< POWER_MODEL ID=11 NAME= >\n"
        "< POWER_MODEL ID=12 NAME=MODE_(A|B) > # a remark >\n"
        f"< POWER_MODEL ID={'9' * 5000} NAME=LONG >\n"
        "< PM_CONFIG DEFAULT=1 >\n"
    )
    write_files(tmp_path, {"etc/nvpmodel.conf": text, "var/lib/nvpmodel/status": "pmode:0010"})
    assert find_power_modes(str(tmp_path)) == {1: "15W", 10: "Kiosk at  night", 12: "MODE_(A|B)"}
    assert read_power_mode(str(tmp_path)) == "Kiosk at  night"


def test_empty_tree(tmp_path: Path) -> None:
    """No sensor responds, except psutil."""
    status = JetsonBoard(tmp_path, FakeClock()).read()
    assert status.rss_mb > 10
    assert status.temperatures_c == status.power_rails_mw == status.throttle_events == {}
    for name in ("power_mw", "power_mode", "nvmap_used_mb", "cpu_pressure", "gpu_freq_mhz"):
        assert getattr(status, name) is None
