"""The udev rules, matched here against devices as the kernel describes them.

`udevadm verify` checks them too, from systemd 254 on.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

import pytest

from .unit_root import SHIPPED, run_tool

FILE = SHIPPED / "emotion-edge.rules"
TERM = re.compile(r'([A-Z]+(?:\{[^}]+\})?)(==|!=|\+=|:=|=)"([^"]*)"')

Device = Mapping[str, str]

UARTA = {"SUBSYSTEM": "tty", "KERNEL": "ttyTHS1", "KERNELS": "3100000.serial"}
UART_OF_THE_M2_SLOT = {"SUBSYSTEM": "tty", "KERNEL": "ttyTHS2", "KERNELS": "3140000.serial"}
CONSOLE = {"SUBSYSTEM": "tty", "KERNEL": "ttyTCU0", "KERNELS": "tcu"}
ADAPTER = {"SUBSYSTEM": "tty", "KERNEL": "ttyUSB1", "SUBSYSTEMS": "usb"}
ARDUINO = {"SUBSYSTEM": "tty", "KERNEL": "ttyACM0", "SUBSYSTEMS": "usb"}
CAMERA = {
    "SUBSYSTEM": "video4linux",
    "KERNEL": "video3",
    "ENV{ID_BUS}": "usb",
    "ENV{ID_V4L_CAPABILITIES}": ":capture:",
    "ATTR{index}": "0",
}
METADATA = {**CAMERA, "KERNEL": "video4", "ENV{ID_V4L_CAPABILITIES}": ":", "ATTR{index}": "1"}
INFRARED = {**CAMERA, "KERNEL": "video5", "ATTR{index}": "2"}
SENSOR = {
    "SUBSYSTEM": "video4linux",
    "KERNEL": "video0",
    "ENV{ID_V4L_CAPABILITIES}": ":capture:",
    "ATTR{index}": "0",
}
SERIAL, SERIAL_USB, VIDEO = "emotion-edge-serial", "emotion-edge-serial-usb", "emotion-edge-camera"


def read_rules() -> list[list[tuple[str, str, str]]]:
    """Return the terms of each rule: (key, operator, value)."""
    rules = []
    for line in FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(rf"{TERM.pattern}(, {TERM.pattern})*", line), line
            rules.append(TERM.findall(line))
    return rules


def find_names(device: Device, action: str = "add") -> tuple[set[str], int]:
    """Return the names that udev gives `device`, and the priority of the links."""
    names: set[str] = set()
    priority = 0
    device = {**device, "ACTION": action}
    for rule in read_rules():
        matches = [term for term in rule if term[1] in ("==", "!=")]
        if not all(
            any(fnmatch.fnmatchcase(device.get(key, ""), glob) for glob in value.split("|"))
            == (operator == "==")
            for key, operator, value in matches
        ):
            continue
        for key, _, value in rule:
            if key == "GOTO":
                return names, priority
            if key == "SYMLINK":
                names.update(value.split())
            if key == "OPTIONS" and value.startswith("link_priority="):
                priority = int(value.removeprefix("link_priority="))
    return names, priority


@pytest.mark.parametrize(
    ("device", "names"),
    [
        (UARTA, {SERIAL}),
        (UART_OF_THE_M2_SLOT, set()),
        (CONSOLE, set()),
        (ADAPTER, {SERIAL, SERIAL_USB}),
        (ARDUINO, {SERIAL, SERIAL_USB}),
        (CAMERA, {VIDEO}),
        (METADATA, set()),
        (INFRARED, set()),
        (SENSOR, set()),
    ],
)
def test_names(device: Device, names: set[str]) -> None:
    """Serial ports and cameras get names; consoles, metadata and infrared nodes do not."""
    assert find_names(device)[0] == names
    assert find_names(device, "change")[0] == names


def test_removal_has_no_rule() -> None:
    """udev removes links by itself."""
    assert find_names(CAMERA, "remove") == (set(), 0)


def test_board_uart_outranks_an_adapter() -> None:
    """Otherwise the name would change when an adapter is plugged in."""
    assert find_names(UARTA)[1] > find_names(ADAPTER)[1]


def test_serial_ports_belong_to_their_group() -> None:
    """Other users have no access."""
    for rule in read_rules():
        terms = {key: value for key, _, value in rule}
        if terms.get("SUBSYSTEM") == "tty":
            assert (terms["GROUP"], terms["MODE"]) == ("dialout", "0660")


def test_modem_manager_ignores_adapters() -> None:
    """It would send commands that arrive at the other end."""
    (rule,) = [rule for rule in read_rules() if ("KERNEL", "==", "ttyUSB*|ttyACM*") in rule]
    assert ("ENV{ID_MM_DEVICE_IGNORE}", "=", "1") in rule


def test_udev_accepts_the_file() -> None:
    """All labels exist, and `udevadm verify` finds no error where it is available."""
    terms = [term for rule in read_rules() for term in rule]
    labels = {value for key, _, value in terms if key == "LABEL"}
    assert {value for key, _, value in terms if key == "GOTO"} == labels
    done = run_tool("udevadm", "verify", FILE)
    assert done.returncode == 0, done.stderr
