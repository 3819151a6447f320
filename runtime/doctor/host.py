"""Checks of the machine and its software: Python, packages, bundle, JetPack, board, memory, cache.

In: the root folder, the environment, the installed packages. Out: one `Check` each. The board's
sensors are opened and read once, as a run does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ...engines.bundles import (
    BundleError,
    BundleStore,
    choose_bundle,
    describe_bundle,
    find_state_folder,
)
from ..board import (
    describe_machine,
    is_jetson,
    measures_processor,
    name_jetpack,
    open_board,
    read_bytes,
    read_governor,
    read_l4t,
    read_name,
)
from ..config import Config, ConfigError
from ..service import DEVICE_PRIORITY, realtime_permitted
from .check import Check, is_writable
from .service import is_installed

KERNELS = Path(__file__).parents[2] / "kernels" / "cpu"
MIN_MEMORY_MB = 512
L4T_VERSIONS = (((36, 4), (37,)), ((39,), (40,)))
"""From, and below: JetPack 6 since 6.1 (6.0 has TensorRT 8), and 7 since 7.2 (earlier ones support
Thor alone)."""
MAX_TEMPERATURE_C = 85.0
"""14 °C below where Linux slows an Orin down (the cpu-sw-throttle trip of its device tree)."""
CAUSES = {
    "under-voltage": "use a stronger power supply and a shorter cable",
    "average over-current": "more load than the power mode allows: choose another (sudo nvpmodel)",
    "instantaneous over-current": "peaks above what the board may draw: choose a lower power mode",
    "thermal": "the processor was too hot: check the fan and remove dust",
}
"""The remedy for each of `BoardStatus.throttle_events`."""


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    text = ".".join(map(str, version))
    if version < (3, 10):
        return Check("python", "fail", f"{text} is too old: install 3.10 or newer")
    if version >= (3, 14):
        return Check("python", "warn", f"{text} is newer than the tested versions (3.10 to 3.13)")
    return Check("python", "ok", text)


def check_bundle(path: Path | None, config: Config) -> Check:
    """Choose and load the bundle as a run does, every checksum included."""
    configured = str(path or config.bundle) if path or config.bundle else ""
    try:
        choice = choose_bundle(configured, config.public_key)
    except (BundleError, ConfigError) as error:
        return Check("bundle", "fail", str(error))
    text = f"{choice.bundle.path} ({choice.bundle.manifest.name})"
    reason = "" if configured else explain_fall_back(choice.name)
    if reason:
        return Check("bundle", "warn", f"falls back to {text}: {reason}")
    return Check("bundle", "ok", text)


def explain_fall_back(name: str) -> str:
    """Return why bundle `name` is in use instead of the selected one, "" where it is that one."""
    try:
        selected = BundleStore(find_state_folder()).read_selection().current
    except BundleError as error:
        return str(error)
    if selected == name:
        return ""
    remedy = "emotion-edge bundle list shows why; install it again, or emotion-edge bundle rollback"
    return f"{describe_bundle(selected)} is selected and cannot be used: {remedy}"


def check_jetpack(sys_root: Path = Path("/")) -> Check:
    """Check for Orin Nano, NX or AGX (one chip, tegra234) with one of `L4T_VERSIONS`."""
    if not is_jetson(sys_root):
        return Check("jetpack", "ok", "not a Jetson")
    board = read_name(f"{sys_root}/proc/device-tree/model") or "a Jetson without a model name"
    compatible = read_bytes(f"{sys_root}/proc/device-tree/compatible") or b""
    if b"nvidia,tegra234" not in compatible.split(b"\0"):
        text = f"{board} is not supported: a Jetson Orin Nano, NX or AGX is required"
        return Check("jetpack", "fail", text)
    l4t = read_l4t(sys_root)
    if l4t is None:
        text = f"{board}: /etc/nv_tegra_release does not name the JetPack"
        return Check("jetpack", "warn", text)
    version = tuple(map(int, l4t.split(".")))
    if not any(low <= version < high for low, high in L4T_VERSIONS):
        remedy = "flash JetPack 6.1, 6.2 or 7.2 (L4T 36.4 or newer, or 39)"
        return Check("jetpack", "fail", f"{board}: L4T {l4t} is not supported: {remedy}")
    return Check("jetpack", "ok", f"{board}, JetPack {name_jetpack(l4t)}")


def list_distributions() -> set[str]:
    """Return the names of all installed packages, in lower case with dashes."""
    names = (package.metadata["Name"] or "" for package in importlib.metadata.distributions())
    return {name.lower().replace("_", "-") for name in names}


def check_opencv(installed: Collection[str] | None = None) -> Check:
    """Check for a single build of OpenCV: two builds overwrite each other's files."""
    names = list_distributions() if installed is None else installed
    others = sorted({"opencv-python", "opencv-contrib-python"} & set(names))
    if others and "opencv-python-headless" in names:
        remove = f"pip uninstall {' '.join(others)}"
        again = "pip install --force-reinstall --no-deps opencv-python-headless"
        return Check("opencv", "warn", f"a GUI build is installed too: {remove}, then {again}")
    return Check("opencv", "ok", "one build")


def check_jetson_utils(
    installed: Collection[str] | None = None,
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> Check:
    """Check that jetson-utils is NVIDIA's: the package index has another one of that name."""
    names = list_distributions() if installed is None else installed
    if has_module("jetson_utils_python"):
        return Check("jetson", "ok", "jetson-utils has its native part")
    if "jetson-utils" in names:
        remedy = "pip uninstall jetson-utils, then build github.com/dusty-nv/jetson-utils"
        return Check("jetson", "fail", f"the jetson-utils of pip is a wrong package: {remedy}")
    return Check("jetson", "ok", "no jetson-utils, which only a Jetson needs")


def check_board(sys_root: Path = Path("/")) -> Check:
    """Check for throttling and heat. The counters run since the system's start."""
    status = open_board("auto", sys_root).read()
    warnings = [
        f"throttled {count}x since the system's start ({cause}): {CAUSES[cause]}"
        for cause, count in status.throttle_events.items()
        if count
    ]
    zones = [(t, name) for name, t in status.temperatures_c.items() if measures_processor(name)]
    hottest_c, hottest = max(zones, default=(None, ""))
    if hottest_c is not None and hottest_c > MAX_TEMPERATURE_C:
        warnings.append(f"{hottest} is at {hottest_c:.0f} °C: it needs more air or a fan")
    if warnings:
        return Check("board", "warn", "; ".join(warnings))
    machine = describe_machine(sys_root)
    facts = [str(machine["board"] or machine["cpu"])]
    if machine["l4t"] is not None:
        mode = status.power_mode or "unknown, /var/lib/nvpmodel/status cannot be read"
        facts += [f"JetPack {machine['jetpack']} (L4T {machine['l4t']})", f"power mode {mode}"]
    if hottest_c is not None:
        facts.append(f"{hottest} {hottest_c:.0f} °C")
    return Check("board", "ok", ", ".join(facts))


def check_governor(sys_root: Path) -> Check:
    governor = read_governor(sys_root)
    if governor is None:
        return Check("governor", "ok", "the system does not expose the clock rate")
    if governor != "performance":
        files = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        remedy = f"echo performance | sudo tee {files}"
        return Check("governor", "warn", f"{governor} adds latency after every pause: {remedy}")
    return Check("governor", "ok", governor)


def check_priority(
    sys_root: Path, realtime_permitted: Callable[[], bool] = realtime_permitted
) -> Check:
    """Check for real-time scheduling. Without it, other load delays results."""
    if realtime_permitted():
        return Check("priority", "ok", "real-time scheduling is permitted")
    if is_installed(sys_root):
        return Check("priority", "ok", "the service has real-time scheduling (its LimitRTPRIO=)")
    limit = (
        f'echo "$USER - rtprio {DEVICE_PRIORITY}"'
        " | sudo tee /etc/security/limits.d/emotion-edge.conf"
    )
    remedy = f"{limit}, then log in again"
    return Check("priority", "warn", f"real-time scheduling is not permitted: {remedy}")


def check_memory(sys_root: Path) -> Check:
    for line in (sys_root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free_mb = int(line.split()[1]) // 1024
            if free_mb < MIN_MEMORY_MB:
                remedy = f"{MIN_MEMORY_MB} are needed, close other programs"
                return Check("memory", "warn", f"{free_mb} MB available: {remedy}")
            return Check("memory", "ok", f"{free_mb} MB available")
    return Check("memory", "warn", "/proc/meminfo has no MemAvailable")


def check_cache(environment: Mapping[str, str], kernels: Path = KERNELS) -> Check:
    """Find numba's cache folder: NUMBA_CACHE_DIR, else beside the source, else in the home."""
    chosen = environment.get("NUMBA_CACHE_DIR")
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(chosen)] if chosen else []
    folders += [kernels / "__pycache__", home / "numba"]
    usable = next((folder for folder in folders if is_writable(folder)), None)
    if usable is None:
        remedy = "set NUMBA_CACHE_DIR to a folder that may be written"
        return Check("cache", "fail", f"cannot write {' or '.join(map(str, folders))}: {remedy}")
    if chosen and usable != Path(chosen):
        return Check("cache", "warn", f"NUMBA_CACHE_DIR={chosen} cannot be written: using {usable}")
    return Check("cache", "ok", str(usable))
