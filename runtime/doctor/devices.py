"""Checks of the devices: cameras, microphone, screen, serial port, capture indicator.

In: the root folder, and what a configuration asks for. Out: one `Check` each. Devices are not
opened and the indicator is not turned on: permissions and what the kernel reports are read.

A Jetson has no display device before nvidia-drm sets modes (Jetson Linux API reference, Direct
Rendering Manager). The UART of a Jetson Orin's 40-pin header is `serial@3100000` of its device tree
(tegra234.dtsi of Linux). Its name, ttyTHS0 or ttyTHS1, depends on the release. On JetPack 6.2 what
it receives by DMA is mostly zeros while sending works (github.com/agilexrobotics/limo_pro_doc,
issue 2). Developed on simulated device trees, not tried on a Jetson.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

from .. import config
from ..board import is_jetson, list_names, name_jetpack, read_l4t, read_text
from ..capture import list_microphones
from ..messages import SourceError
from ..service import explain_unusable, find_file
from ..sinks.screen import Connector, list_connectors
from .check import Check, join_group, may_open, may_write

HEADER_UART = "3100000"
"""Address of the UART on pins 8 and 10."""
BROKEN_DMA = "6.2"
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/generator")
ADDRESS = re.compile(r"/([0-9a-f]+)\.serial(?=/)")
MODESET = (
    "echo 'options nvidia-drm modeset=1' | sudo tee /etc/modprobe.d/nvidia-drm.conf, then restart"
)


def check_cameras(sys_root: Path, may_open: Callable[[Path], bool] = may_open) -> Check:
    devices = sorted((sys_root / "dev").glob("video*"))
    if not devices:
        return Check("camera", "warn", "no /dev/video*: plug one in, or run a file or the demo")
    usable = [device.name for device in devices if may_open(device)]
    if not usable:
        remedy = join_group("video")
        return Check("camera", "fail", f"no permission for /dev/{devices[0].name}: {remedy}")
    return Check("camera", "ok", ", ".join(f"/dev/{name}" for name in usable))


def check_microphone(
    sys_root: Path,
    list_microphones: Callable[[], Collection[str]] = list_microphones,
    may_open: Callable[[Path], bool] = may_open,
) -> Check:
    try:
        names = list_microphones()
    except SourceError:
        remedy = "sudo apt install portaudio19-dev python3-dev gcc, then pip install pyaudio"
        return Check("microphone", "warn", f"PyAudio is not installed, audio is off: {remedy}")
    closed = [path for path in sorted((sys_root / "dev/snd").glob("pcm*c")) if not may_open(path)]
    if names:
        return Check("microphone", "ok", ", ".join(names))
    if closed:
        remedy = join_group("audio")
        return Check("microphone", "fail", f"no permission for /dev/snd/{closed[0].name}: {remedy}")
    return Check("microphone", "warn", "PortAudio finds no input device: plug one in")


def check_screen(sys_root: Path = Path("/"), may_open: Callable[[Path], bool] = may_open) -> Check:
    """Check for a display device and a monitor. A machine without display hardware is ok."""
    connectors = [
        connector
        for connector in list_connectors(sys_root)
        if _find_card(sys_root, connector).exists()
    ]
    if not connectors:
        if is_jetson(sys_root):
            return Check("screen", "warn", f"no display device: {MODESET}")
        return Check("screen", "ok", "no display hardware")
    closed = [c.card for c in connectors if not may_open(_find_card(sys_root, c))]
    if len(closed) == len(connectors):
        remedy = join_group("video")
        return Check("screen", "fail", f"no permission for {closed[0]}: {remedy}")
    connected = [c for c in connectors if c.status == "connected" and c.card not in closed]
    if not connected:
        names = ", ".join(connector.name for connector in connectors)
        return Check("screen", "warn", f"no monitor connected to {names}")
    return Check("screen", "ok", ", ".join(map(_describe_connector, connected)))


def check_indicator(
    settings: config.Indicator,
    sys_root: Path = Path("/"),
    may_write: Callable[[Path], bool] = may_write,
) -> Check:
    """Check the capture indicator as a run does before it reads the first frame."""
    if settings.kind == "none":
        return Check("indicator", "ok", "none: put up a sign that a camera is in use")
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
        remedy = f"a udev rule, or sudo chmod g+w {settings.file} and its group"
        return Check("indicator", "fail", f"no permission to write {settings.file}: {remedy}")
    return Check("indicator", "ok", settings.file)


def check_serial(
    port: str,
    sys_root: Path = Path("/"),
    may_open: Callable[[Path], bool] = may_open,
    is_device: Callable[[Path], bool] = Path.is_char_device,
) -> Check:
    """Check one serial port. `port` is the path behind "serial:" in output.sinks."""
    from ..sinks.serial_line import load_pyserial

    try:
        load_pyserial()
    except ValueError as error:
        return Check("serial", "fail", str(error))
    path = sys_root / port.lstrip("/")
    if not path.exists():
        ports = list_ports(sys_root)
        remedy = f"present: {', '.join(ports)}" if ports else "plug it in"
        return Check("serial", "warn", f"{port} is missing, a run waits for it: {remedy}")
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
    """Return USB adapters by their stable names, and the port of a Jetson's header."""
    header = find_header_uart(sys_root)
    adapters = [f"/dev/serial/by-id/{n}" for n in list_names(f"{sys_root}/dev/serial/by-id")]
    return adapters + ([f"/dev/{header} (pins 8 and 10)"] if header else [])


def find_other_user(name: str, sys_root: Path) -> str:
    """Return the system's own user of this port with the remedy, "" where there is none."""
    console = (read_text(f"{sys_root}/sys/class/tty/console/active") or "").split()
    if name in console:
        return "the kernel's messages: remove its console= from the kernel's command line"
    if is_wanted(f"serial-getty@{name}.service", sys_root):
        return f"a login prompt: sudo systemctl mask --now serial-getty@{name}"
    if name.startswith("ttyTHS") and is_wanted("nvgetty.service", sys_root):
        return "NVIDIA's login prompt: sudo systemctl mask --now nvgetty, then restart the board"
    return ""


def is_wanted(unit: str, sys_root: Path) -> bool:
    """Return whether systemd starts a unit at boot, enabled or by the kernel's command line."""
    mask = sys_root / UNIT_FOLDERS[0] / unit
    if mask.is_symlink() and str(mask.readlink()) == "/dev/null":
        return False
    targets = (folder for name in UNIT_FOLDERS for folder in (sys_root / name).glob("*.wants"))
    return any((folder / unit).is_symlink() for folder in targets)


def find_advice(port: str, name: str, sys_root: Path) -> list[str]:
    """Return warnings about a port that works now and may fail later."""
    advice = []
    if re.fullmatch(r"/dev/tty(USB|ACM)[0-9]+", port):
        links = (sys_root / "dev/serial/by-id").glob("*")
        stable = next((f.name for f in links if Path(os.path.realpath(f)).name == name), "...")
        advice.append(f"its number may change, /dev/serial/by-id/{stable} is stable")
    if not name.startswith("ttyTHS") or not is_jetson(sys_root):
        return advice
    header = find_header_uart(sys_root)
    if header and header != name:
        advice.append(f"pins 8 and 10 of the header are /dev/{header}")
    jetpack = name_jetpack(read_l4t(sys_root)) or ""
    device = find_device(name, sys_root)
    if jetpack.startswith(BROKEN_DMA) and device and (device / "of_node/dmas").exists():
        advice.append(
            f"JetPack {jetpack} receives zeros by DMA. Only sending is used here, and it is"
            " reported to work. If it does not: a USB adapter, or a device-tree overlay without"
            " dmas and dma-names of this port"
        )
    return advice


def find_header_uart(sys_root: Path) -> str:
    """Return the name of the port on an Orin's 40-pin header, such as "ttyTHS1", else "".

    It is found by address: the number in the name depends on the release.
    """
    for name in list_names(f"{sys_root}/sys/class/tty"):
        device = find_device(name, sys_root) if name.startswith("ttyTHS") else None
        if device is not None and device.name == f"{HEADER_UART}.serial":
            return name
    return ""


def find_device(name: str, sys_root: Path) -> Path | None:
    """Return the device folder of the chip's own UART behind a port, else None.

    The number of folders between the two differs between kernels.
    """
    path = os.path.realpath(sys_root / "sys/class/tty" / name)
    match = ADDRESS.search(path)
    return None if match is None else Path(path[: match.end()])


def _find_card(sys_root: Path, connector: Connector) -> Path:
    return sys_root / connector.card.lstrip("/")


def _describe_connector(connector: Connector) -> str:
    mode = connector.modes[0] if connector.modes else "unknown mode"
    return f"{connector.name} {mode} on {connector.card}"
