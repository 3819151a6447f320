"""The doctor's look at the serial port, on made-up machines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.devices import check_serial, find_header_uart

from ..board.trees import JETPACK_7, ORIN_NANO, build_jetson, link, write_files

BY_ID = "usb-FTDI_FT232R_A1-if00-port0"
PLATFORM = "sys/devices/platform/bus@0"
KERNEL_6 = "tty/ttyTHS1"
KERNEL_6_8 = "3100000.serial:0/3100000.serial:0.0/tty/ttyTHS1"


def look(port: str, root: Path, may_open: bool = True) -> Check:
    """Files stand in for devices: nobody but root may make one of those."""
    return check_serial(port, root, lambda path: may_open, Path.is_file)


def add_uart(root: Path, below: str, dmas: bool = True) -> None:
    """A port of the chip, with its node of the device tree."""
    address = below.partition(".")[0] if ".serial:" in below else "3100000"
    device = root / PLATFORM / f"{address}.serial"
    name = Path(below).name
    write_files(root, {f"{PLATFORM}/{address}.serial/{below}/dev": "238:1\n", f"dev/{name}": ""})
    link(root / f"sys/class/tty/{name}", device / below)
    node = root / f"sys/firmware/devicetree/base/bus@0/serial@{address}"
    write_files(node, {"compatible": "nvidia,tegra194-hsuart\0"} | ({"dmas": "x"} if dmas else {}))
    link(device / "of_node", node)


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """JetPack 6.2: the UART of the header, and the name that udev gives it."""
    build_jetson(tmp_path, ORIN_NANO, ("R36", "4.3"))
    add_uart(tmp_path, KERNEL_6)
    (tmp_path / "dev/emotion-edge-serial").symlink_to("ttyTHS1")
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A USB adapter with the names that udev gives it."""
    write_files(tmp_path, {"dev/ttyUSB0": ""})
    link(tmp_path / "dev/serial/by-id" / BY_ID, tmp_path / "dev/ttyUSB0")
    return tmp_path


def test_adapter_by_its_name(adapter: Path) -> None:
    """Well, and what it is just now."""
    port = f"/dev/serial/by-id/{BY_ID}"
    assert look(port, adapter) == Check("serial", "ok", f"{port} (ttyUSB0)")


def test_adapter_by_its_number(adapter: Path) -> None:
    """The number changes when it is plugged in again; the name that stays is given."""
    check = look("/dev/ttyUSB0", adapter)
    assert check.state == "warn"
    assert f"/dev/serial/by-id/{BY_ID} stays" in check.message


def test_port_of_a_pc(tmp_path: Path) -> None:
    """Its number stays."""
    write_files(tmp_path, {"dev/ttyS0": ""})
    assert look("/dev/ttyS0", tmp_path) == Check("serial", "ok", "/dev/ttyS0")


def test_missing_port(adapter: Path) -> None:
    """A run waits for it; what is there is named."""
    check = look("/dev/ttyUSB7", adapter)
    assert check.state == "warn"
    assert check.message == (
        f"/dev/ttyUSB7 is missing, a run waits for it: there is /dev/serial/by-id/{BY_ID}"
    )


def test_nothing_plugged_in(tmp_path: Path) -> None:
    """And nothing to name."""
    assert look("/dev/ttyUSB0", tmp_path).message.endswith("plug it in")


def test_missing_port_of_a_jetson(jetson: Path) -> None:
    """The one on the header is named as this release calls it."""
    check = look("/dev/ttyTHS0", jetson)
    assert check.message.endswith("there is /dev/ttyTHS1 (pins 8 and 10)")


def test_document(tmp_path: Path) -> None:
    """Looked at as a run does."""
    write_files(tmp_path, {"dev/letter": "dear"})
    assert check_serial("/dev/letter", tmp_path) == Check(
        "serial", "fail", "/dev/letter is no device"
    )


def test_real_device() -> None:
    """Any that everybody may open; whether it is a port shows when it is opened."""
    assert check_serial("/dev/null").state == "ok"


def test_no_permission(adapter: Path) -> None:
    """The group, with its command."""
    check = look("/dev/ttyUSB0", adapter, may_open=False)
    assert check.state == "fail"
    assert "sudo usermod -aG dialout $USER" in check.message


def test_no_pyserial(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs it."""
    monkeypatch.setitem(sys.modules, "serial", None)
    check = look("/dev/ttyUSB0", adapter)
    assert check.state == "fail"
    assert 'pip install "emotion-edge[serial]"' in check.message


@pytest.mark.parametrize(
    "unit",
    [
        "etc/systemd/system/getty.target.wants/serial-getty@ttyTHS1.service",
        "run/systemd/generator/getty.target.wants/serial-getty@ttyTHS1.service",
    ],
)
def test_login_prompt(jetson: Path, unit: str) -> None:
    """Enabled by hand, or by the kernel's command line; until it is masked."""
    link(jetson / unit, jetson / "lib/systemd/system/serial-getty@.service")
    check = look("/dev/emotion-edge-serial", jetson)
    assert check.state == "fail"
    assert "sudo systemctl mask --now serial-getty@ttyTHS1" in check.message
    mask = jetson / "etc/systemd/system/serial-getty@ttyTHS1.service"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.symlink_to("/dev/null")
    assert look("/dev/emotion-edge-serial", jetson).state != "fail"


def test_login_prompt_of_a_jetson(jetson: Path) -> None:
    """Only where it is: on the chip's own ports."""
    write_files(jetson, {"dev/ttyACM0": ""})
    wants = jetson / "etc/systemd/system/multi-user.target.wants"
    link(wants / "nvgetty.service", jetson / "etc/systemd/system/nvgetty.service")
    check = look("/dev/emotion-edge-serial", jetson)
    assert check.state == "fail"
    assert "sudo systemctl mask --now nvgetty" in check.message
    assert look("/dev/ttyACM0", jetson).state != "fail"


def test_console(tmp_path: Path) -> None:
    """The kernel would write between the lines."""
    write_files(tmp_path, {"dev/ttyS0": "", "sys/class/tty/console/active": "tty0 ttyS0\n"})
    check = look("/dev/ttyS0", tmp_path)
    assert check.state == "fail"
    assert "console=" in check.message


@pytest.mark.parametrize("release", ["4.3", "4.4", "5.0"])
def test_dma_of_jetpack_6_2(tmp_path: Path, release: str) -> None:
    """Said with what to do; sending is reported to work, so it is no failure."""
    build_jetson(tmp_path, ORIN_NANO, ("R36", release))
    add_uart(tmp_path, KERNEL_6)
    check = look("/dev/ttyTHS1", tmp_path)
    assert check.state == "warn"
    assert "receives zeros by DMA" in check.message
    assert "overlay without dmas" in check.message


def test_port_without_dma(tmp_path: Path) -> None:
    """The overlay is in place."""
    build_jetson(tmp_path, ORIN_NANO, ("R36", "4.3"))
    add_uart(tmp_path, KERNEL_6, dmas=False)
    assert look("/dev/ttyTHS1", tmp_path) == Check("serial", "ok", "/dev/ttyTHS1")


def test_other_jetpack(tmp_path: Path) -> None:
    """Nothing is known of it."""
    build_jetson(tmp_path, ORIN_NANO, JETPACK_7)
    add_uart(tmp_path, KERNEL_6_8)
    assert look("/dev/ttyTHS1", tmp_path).state == "ok"


def test_wrong_port_of_a_jetson(jetson: Path) -> None:
    """Another UART than the one on the header; by address, the numbers say nothing."""
    add_uart(jetson, "3110000.serial:0/3110000.serial:0.0/tty/ttyTHS0", dmas=False)
    check = look("/dev/ttyTHS0", jetson)
    assert check.state == "warn"
    assert check.message == "/dev/ttyTHS0: pins 8 and 10 of the header are /dev/ttyTHS1"


@pytest.mark.parametrize("below", [KERNEL_6, KERNEL_6_8])
def test_header_uart(tmp_path: Path, below: str) -> None:
    """However the kernel lays its folders."""
    assert find_header_uart(tmp_path) == ""
    add_uart(tmp_path, below)
    write_files(tmp_path, {"sys/class/tty/ttyS0/dev": "4:64\n", "sys/class/tty/ttyTHS9/dev": ""})
    assert find_header_uart(tmp_path) == "ttyTHS1"
