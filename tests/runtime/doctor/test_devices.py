"""The doctor's checks of the devices, on simulated machines."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Collection
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.devices import (
    MODESET,
    check_cameras,
    check_microphone,
    check_screen,
    check_serial,
    find_header_uart,
)
from emotion_edge.runtime.messages import SourceError

from ..board.trees import JETPACK_7, ORIN_NANO, build_jetson, link, write_files

BY_ID = "usb-FTDI_FT232R_A1-if00-port0"
PLATFORM = "sys/devices/platform/bus@0"
KERNEL_6 = "tty/ttyTHS1"
KERNEL_6_8 = "3100000.serial:0/3100000.serial:0.0/tty/ttyTHS1"


def test_cameras(tmp_path: Path) -> None:
    """None, one without permission, one of two with it."""
    assert check_cameras(tmp_path).state == "warn"
    write_files(tmp_path, {"dev/video0": "", "dev/video2": ""})
    closed = check_cameras(tmp_path, lambda path: False)
    assert closed.state == "fail"
    assert "/dev/video0: sudo usermod -aG video $USER" in closed.message
    half_open = check_cameras(tmp_path, lambda path: path.name == "video2")
    assert half_open == Check("camera", "ok", "/dev/video2")


def test_microphone(tmp_path: Path) -> None:
    """No PyAudio, no device, no permission, a device."""

    def miss_pyaudio() -> Collection[str]:
        raise SourceError("PyAudio is not installed")

    missing = check_microphone(tmp_path, miss_pyaudio)
    assert missing.state == "warn"
    assert "sudo apt install portaudio19-dev python3-dev gcc" in missing.message
    assert check_microphone(tmp_path, list).state == "warn"
    write_files(tmp_path, {"dev/snd/pcmC0D0c": ""})
    closed = check_microphone(tmp_path, list, lambda path: False)
    assert closed.state == "fail"
    assert "sudo usermod -aG audio $USER" in closed.message
    found = check_microphone(tmp_path, lambda: ["USB microphone"])
    assert found == Check("microphone", "ok", "USB microphone")


def test_microphones_are_listed_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only inputs count, and output of PortAudio's libraries does not reach the terminal."""

    class FakeAudio:
        def get_device_count(self) -> int:
            os.write(2, b"ALSA lib pcm.c:2664:(snd_pcm_open_noupdate) Unknown PCM\n")
            return 2

        def get_device_info_by_index(self, index: int) -> dict[str, object]:
            return {"index": index, "name": f"device {index}", "maxInputChannels": index}

        def terminate(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "pyaudio", types.SimpleNamespace(PyAudio=FakeAudio))
    assert check_microphone(tmp_path) == Check("microphone", "ok", "device 1")
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


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
    """Each connected one with its preferred mode."""
    add_connector(tmp_path, "card0-HDMI-A-1", "connected", "1920x1080\n640x480\n")
    add_connector(tmp_path, "card0-DP-1", "disconnected")
    expected = Check("screen", "ok", "HDMI-A-1 1920x1080 on /dev/dri/card0")
    assert check_screen(tmp_path) == expected


def test_no_monitor(tmp_path: Path) -> None:
    """A warning names the connectors."""
    add_connector(tmp_path, "card0-HDMI-A-1", "disconnected")
    add_connector(tmp_path, "card1-DP-1", "unknown")
    check = check_screen(tmp_path)
    assert (check.state, "HDMI-A-1, DP-1" in check.message) == ("warn", True)


def test_no_permission_for_the_screen(tmp_path: Path) -> None:
    add_connector(tmp_path, "card0-HDMI-A-1", "connected", "1920x1080\n")
    check = check_screen(tmp_path, may_open=lambda path: False)
    assert check.state == "fail"
    assert "/dev/dri/card0: sudo usermod -aG video $USER" in check.message


@pytest.mark.parametrize("render_only", [False, True])
def test_no_display(tmp_path: Path, render_only: bool) -> None:
    """A server is ok, and so is a card that only computes."""
    if render_only:
        write_files(tmp_path, {"dev/dri/card0": "", "sys/class/drm/card0/dev": "226:0\n"})
    assert check_screen(tmp_path).state == "ok"


def test_jetson_without_modesetting(tmp_path: Path) -> None:
    """nvidia-drm has no display device before it sets modes."""
    check = check_screen(build_jetson(tmp_path, ORIN_NANO))
    assert (check.state, MODESET in check.message) == ("warn", True)


# The serial port


def check_port(port: str, root: Path, may_open: bool = True) -> Check:
    """Check a file in place of a device, which only root can create."""
    return check_serial(port, root, lambda path: may_open, Path.is_file)


def add_uart(root: Path, below: str, dmas: bool = True) -> None:
    """Add a port of the chip with its node in the device tree."""
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
    """JetPack 6.2 with the UART of the header and its udev name."""
    build_jetson(tmp_path, ORIN_NANO, ("R36", "4.3"))
    add_uart(tmp_path, KERNEL_6)
    (tmp_path / "dev/emotion-edge-serial").symlink_to("ttyTHS1")
    return tmp_path


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A USB adapter with its udev names."""
    write_files(tmp_path, {"dev/ttyUSB0": ""})
    link(tmp_path / "dev/serial/by-id" / BY_ID, tmp_path / "dev/ttyUSB0")
    return tmp_path


def test_adapter_by_its_name(adapter: Path) -> None:
    """The message adds its number of now."""
    port = f"/dev/serial/by-id/{BY_ID}"
    assert check_port(port, adapter) == Check("serial", "ok", f"{port} (ttyUSB0)")


def test_adapter_by_its_number(adapter: Path) -> None:
    """The number may change. The stable name is given."""
    check = check_port("/dev/ttyUSB0", adapter)
    assert check.state == "warn"
    assert f"/dev/serial/by-id/{BY_ID}" in check.message


def test_port_of_a_pc(tmp_path: Path) -> None:
    """Its number does not change."""
    write_files(tmp_path, {"dev/ttyS0": ""})
    assert check_port("/dev/ttyS0", tmp_path) == Check("serial", "ok", "/dev/ttyS0")


def test_missing_port(adapter: Path) -> None:
    """A run waits for it. Ports that are present are named."""
    check = check_port("/dev/ttyUSB7", adapter)
    assert check.state == "warn"
    for port in ("/dev/ttyUSB7", f"/dev/serial/by-id/{BY_ID}"):
        assert port in check.message


def test_missing_port_of_a_jetson(jetson: Path) -> None:
    """The port on the header has this release's name."""
    assert "/dev/ttyTHS1" in check_port("/dev/ttyTHS0", jetson).message
    assert check_port("/dev/ttyUSB0", jetson / "sys").state == "warn"


def test_regular_file(tmp_path: Path) -> None:
    write_files(tmp_path, {"dev/letter": "dear"})
    check = check_serial("/dev/letter", tmp_path)
    assert (check.state, "/dev/letter" in check.message) == ("fail", True)


def test_real_device() -> None:
    """Every character device passes: only opening it shows whether it is a port."""
    assert check_serial("/dev/null").state == "ok"


def test_no_permission_for_the_port(adapter: Path) -> None:
    check = check_port("/dev/ttyUSB0", adapter, may_open=False)
    assert check.state == "fail"
    assert "sudo usermod -aG dialout $USER" in check.message


def test_no_pyserial(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    check = check_port("/dev/ttyUSB0", adapter)
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
    """Enabled or requested by the kernel's command line, until it is masked."""
    link(jetson / unit, jetson / "lib/systemd/system/serial-getty@.service")
    check = check_port("/dev/emotion-edge-serial", jetson)
    assert check.state == "fail"
    assert "sudo systemctl mask --now serial-getty@ttyTHS1" in check.message
    mask = jetson / "etc/systemd/system/serial-getty@ttyTHS1.service"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.symlink_to("/dev/null")
    assert check_port("/dev/emotion-edge-serial", jetson).state != "fail"


def test_login_prompt_of_a_jetson(jetson: Path) -> None:
    """NVIDIA's prompt uses only the chip's own ports."""
    write_files(jetson, {"dev/ttyACM0": ""})
    wants = jetson / "etc/systemd/system/multi-user.target.wants"
    link(wants / "nvgetty.service", jetson / "etc/systemd/system/nvgetty.service")
    check = check_port("/dev/emotion-edge-serial", jetson)
    assert check.state == "fail"
    assert "sudo systemctl mask --now nvgetty" in check.message
    assert check_port("/dev/ttyACM0", jetson).state != "fail"


def test_console(tmp_path: Path) -> None:
    """The kernel writes its messages to the port."""
    write_files(tmp_path, {"dev/ttyS0": "", "sys/class/tty/console/active": "tty0 ttyS0\n"})
    check = check_port("/dev/ttyS0", tmp_path)
    assert check.state == "fail"
    assert "console=" in check.message


@pytest.mark.parametrize(
    ("l4t", "below", "dmas", "state"),
    [
        (("R36", "4.3"), KERNEL_6, True, "warn"),
        (("R36", "4.4"), KERNEL_6, True, "warn"),
        (("R36", "5.0"), KERNEL_6, True, "warn"),
        (("R36", "4.3"), KERNEL_6, False, "ok"),
        (JETPACK_7, KERNEL_6_8, True, "ok"),
    ],
)
def test_dma_of_jetpack_6_2(
    tmp_path: Path, l4t: tuple[str, str], below: str, dmas: bool, state: str
) -> None:
    """JetPack 6.2 with DMA warns and names the overlay. Sending is reported to work."""
    build_jetson(tmp_path, ORIN_NANO, l4t)
    add_uart(tmp_path, below, dmas)
    check = check_port("/dev/ttyTHS1", tmp_path)
    assert check.state == state
    assert ("dmas" in check.message) is (state == "warn")


def test_wrong_port_of_a_jetson(jetson: Path) -> None:
    """The port of the header is found by its address, not by its number."""
    add_uart(jetson, "3110000.serial:0/3110000.serial:0.0/tty/ttyTHS0", dmas=False)
    check = check_port("/dev/ttyTHS0", jetson)
    assert check.state == "warn"
    assert "/dev/ttyTHS1" in check.message


@pytest.mark.parametrize("below", [KERNEL_6, KERNEL_6_8])
def test_header_uart(tmp_path: Path, below: str) -> None:
    """In the folder layout of each kernel."""
    assert find_header_uart(tmp_path) == ""
    add_uart(tmp_path, below)
    write_files(tmp_path, {"sys/class/tty/ttyS0/dev": "4:64\n", "sys/class/tty/ttyTHS9/dev": ""})
    assert find_header_uart(tmp_path) == "ttyTHS1"
