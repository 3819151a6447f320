"""The doctor's look at the serial port: is it there, may it be opened, does something else use it,
and the traps of a Jetson's own ports.

Sources: the UART of a Jetson Orin's 40-pin header is `serial@3100000` of its device tree
(tegra234.dtsi of Linux; its name, ttyTHS0 or ttyTHS1, depends on the release). On JetPack 6.2 what
it receives by DMA is mostly zeros while sending works (github.com/agilexrobotics/limo_pro_doc,
issue 2). Written against made-up trees; it has looked at no Jetson yet.

The doctor's look at what shows people that the camera is read. It turns nothing on.

The doctor's look at the screen: is there a display device, may it be opened, is a monitor on it.

Nothing is opened: what the kernel says under /sys/class/drm is read. A Jetson shows no display
device before nvidia-drm is told to set modes (Jetson Linux API reference, Direct Rendering
Manager); this has looked at no Jetson yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from .. import config
from ..board import is_jetson, list_names, name_jetpack, read_l4t, read_text
from ..service import explain_unusable, find_file
from ..sinks.screen import Connector, list_connectors
from .check import Check, join_group, may_open

HEADER_UART = "3100000"
"""Address of the UART on pins 8 and 10."""
BROKEN_DMA = "6.2"
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/generator")
ADDRESS = re.compile(r"/([0-9a-f]+)\.serial(?=/)")


def check_serial(
    port: str,
    sys_root: Path = Path("/"),
    may_open: Callable[[Path], bool] = may_open,
    is_device: Callable[[Path], bool] = Path.is_char_device,
) -> Check:
    """`port` is the path that stands behind "serial:" in output.sinks."""
    from ..sinks.serial_line import load_pyserial

    try:
        load_pyserial()
    except ValueError as error:
        return Check("serial", "fail", str(error))
    path = sys_root / port.lstrip("/")
    if not path.exists():
        there = list_ports(sys_root)
        found = f"there is {', '.join(there)}" if there else "plug it in"
        return Check("serial", "warn", f"{port} is missing, a run waits for it: {found}")
    if not is_device(path):
        return Check("serial", "fail", f"{port} is no device")
    if not may_open(path):
        return Check("serial", "fail", f"no permission for {port}: {join_group('dialout')}")
    name = Path(os.path.realpath(path)).name
    user = find_other_user(name, sys_root)
    if user:
        return Check("serial", "fail", f"{port} is used by {user}")
    advice = find_advice(port, name, sys_root)
    if advice:
        return Check("serial", "warn", f"{port}: {'; '.join(advice)}")
    return Check("serial", "ok", port if Path(port).name == name else f"{port} ({name})")


def list_ports(sys_root: Path) -> list[str]:
    """Adapters by the names that stay; a Jetson's header where it has one."""
    header = find_header_uart(sys_root)
    adapters = [f"/dev/serial/by-id/{n}" for n in list_names(f"{sys_root}/dev/serial/by-id")]
    return adapters + ([f"/dev/{header} (pins 8 and 10)"] if header else [])


def find_other_user(name: str, sys_root: Path) -> str:
    """Who writes to this port as well, and how to stop it; "" for nobody."""
    console = (read_text(f"{sys_root}/sys/class/tty/console/active") or "").split()
    if name in console:
        return "the kernel's messages: take its console= out of the kernel's command line"
    if is_wanted(f"serial-getty@{name}.service", sys_root):
        return f"a login prompt: sudo systemctl mask --now serial-getty@{name}"
    if name.startswith("ttyTHS") and is_wanted("nvgetty.service", sys_root):
        return "NVIDIA's login prompt: sudo systemctl mask --now nvgetty, then start the board anew"
    return ""


def is_wanted(unit: str, sys_root: Path) -> bool:
    """Whether systemd starts it with the system, by hand or by the kernel's command line."""
    mask = sys_root / UNIT_FOLDERS[0] / unit
    if mask.is_symlink() and str(mask.readlink()) == "/dev/null":
        return False
    targets = (folder for name in UNIT_FOLDERS for folder in (sys_root / name).glob("*.wants"))
    return any((folder / unit).is_symlink() for folder in targets)


def find_advice(port: str, name: str, sys_root: Path) -> list[str]:
    """What works now and may not later."""
    advice = []
    if re.fullmatch(r"/dev/tty(USB|ACM)[0-9]+", port):
        links = (sys_root / "dev/serial/by-id").glob("*")
        stable = next((f.name for f in links if Path(os.path.realpath(f)).name == name), "...")
        advice.append(f"its number may change, /dev/serial/by-id/{stable} stays")
    if not name.startswith("ttyTHS") or not is_jetson(sys_root):
        return advice
    header = find_header_uart(sys_root)
    if header and header != name:
        advice.append(f"pins 8 and 10 of the header are /dev/{header}")
    jetpack = name_jetpack(read_l4t(sys_root)) or ""
    device = find_device(name, sys_root)
    if jetpack.startswith(BROKEN_DMA) and device and (device / "of_node/dmas").exists():
        advice.append(
            f"JetPack {jetpack} receives zeros by DMA; sending, all that is done here, is reported"
            " to work. If it does not: a USB adapter, or a device-tree overlay without dmas and"
            " dma-names of this port"
        )
    return advice


def find_header_uart(sys_root: Path) -> str:
    """Name of the port on the 40-pin header of an Orin, such as "ttyTHS1"; "" where there is none.

    By its address: the number in the name depends on the release.
    """
    for name in list_names(f"{sys_root}/sys/class/tty"):
        device = find_device(name, sys_root) if name.startswith("ttyTHS") else None
        if device is not None and device.name == f"{HEADER_UART}.serial":
            return name
    return ""


def find_device(name: str, sys_root: Path) -> Path | None:
    """Folder of the UART behind a port; None for what is not one of the chip's own.

    Newer kernels put more folders between the two than older ones.
    """
    path = os.path.realpath(sys_root / "sys/class/tty" / name)
    match = ADDRESS.search(path)
    return None if match is None else Path(path[: match.end()])


def may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def check_indicator(
    settings: config.Indicator,
    sys_root: Path = Path("/"),
    may_write: Callable[[Path], bool] = may_write,
) -> Check:
    """As a run does before it reads the first picture."""
    if settings.kind == "none":
        return Check("indicator", "ok", "none: a sign has to say that a camera is read")
    if settings.kind == "screen":
        return Check("indicator", "ok", "the screen")
    try:
        file = find_file(settings.file, sys_root)
    except config.ConfigError as error:
        return Check("indicator", "fail", str(error))
    problem = explain_unusable(file)
    if problem:
        return Check("indicator", "fail", f"{settings.file}: {problem}")
    if not may_write(file):
        how = f"a udev rule, or sudo chmod g+w {settings.file} and its group"
        return Check("indicator", "fail", f"no permission to write {settings.file}: {how}")
    return Check("indicator", "ok", settings.file)


MODESET = (
    "echo 'options nvidia-drm modeset=1' | sudo tee /etc/modprobe.d/nvidia-drm.conf, then restart"
)


def check_screen(sys_root: Path = Path("/"), may_open: Callable[[Path], bool] = may_open) -> Check:
    """A machine without any display is well; one whose display cannot be used is not."""
    connectors = [
        connector
        for connector in list_connectors(sys_root)
        if find_card(sys_root, connector).exists()
    ]
    if not connectors:
        if is_jetson(sys_root):
            return Check("screen", "warn", f"no display device: {MODESET}")
        return Check("screen", "ok", "no display hardware")
    closed = [c.card for c in connectors if not may_open(find_card(sys_root, c))]
    if len(closed) == len(connectors):
        hint = join_group("video")
        return Check("screen", "fail", f"no permission for {closed[0]}: {hint}")
    connected = [c for c in connectors if c.status == "connected" and c.card not in closed]
    if not connected:
        names = ", ".join(connector.name for connector in connectors)
        return Check("screen", "warn", f"no monitor connected to {names}")
    return Check("screen", "ok", ", ".join(map(describe, connected)))


def find_card(sys_root: Path, connector: Connector) -> Path:
    return sys_root / connector.card.lstrip("/")


def describe(connector: Connector) -> str:
    mode = connector.modes[0] if connector.modes else "unknown mode"
    return f"{connector.name} {mode} on {connector.card}"
