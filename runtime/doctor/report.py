"""`emotion-edge doctor`: looks at everything a run needs and says, one line each, what to do.

Checks are small functions from the machine to `Check`s. What they look at is passed in, so that
tests can show them a broken machine. None of them changes anything, but that the indicator is on
while a picture is read.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ...kernels import has_gpu
from ..board import read_governor
from ..capture import list_cameras, list_microphones
from ..config import Config, ConfigError, load_config
from ..messages import SourceError
from ..service import DEVICE_PRIORITY, find_service_config, realtime_permitted
from .check import Check, is_writable, join_group, may_open
from .devices import check_indicator, check_screen, check_serial
from .gpu import check_capture, check_engine_cache, check_gpu, check_kernels, check_tensorrt
from .host import check_board, check_bundle
from .service import (
    check_config,
    check_folders,
    check_jetpack,
    check_service,
    check_user,
    is_installed,
    is_running,
)

FOLDERS = Path(__file__).parent.parent.parent
MIN_MEMORY_MB = 512


def run_doctor(bundle: Path | None = None, config: Config | None = None) -> int:
    """Print every check on a line of its own. The exit code: 1 when one failed."""
    checks = run_checks(bundle, config or find_config())
    for check in checks:
        print(f"{check.state:<4}  {check.name:<10}  {check.message}")
    return int(any(check.state == "fail" for check in checks))


def find_config() -> Config | None:
    """The service's configuration where there is one, else the default; None for one that is
    refused."""
    try:
        return load_config(find_service_config())
    except ConfigError:  # check_config says so
        return None


def run_checks(
    bundle: Path | None = None,
    config: Config | None = Config(),  # noqa: B008 - frozen
    sys_root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
) -> list[Check]:
    """Every check in turn, for what `config` asks of the machine; without one, as it is refused,
    for the defaults, and no camera is read. Raises nothing."""
    is_refused, config = config is None, config or Config()
    gpu = has_gpu(sys_root / "dev")
    ports = [spec.partition(":")[2] for spec in config.output.sinks if spec.startswith("serial:")]
    found: dict[str, Check] = {}

    def reads_on_gpu() -> bool:
        """As a run would."""
        return gpu and all(found[name].state == "ok" for name in ("gpu", "tensorrt", "numba.cuda"))

    def check_capture_path() -> Check:
        """What is not allowed to a run is not allowed here, and nothing is taken from one."""
        if is_refused:
            return Check("capture", "warn", "not tried: the configuration is refused")
        if is_running(sys_root):
            return Check("capture", "ok", "not tried: the service is using it")
        cameras = list_cameras(str(sys_root / "dev"))
        return check_capture(reads_on_gpu(), cameras, config.indicator, sys_root)

    checks: dict[str, Callable[[], Check]] = {
        "python": check_python,
        "bundle": lambda: check_bundle(bundle, config),
        "camera": lambda: check_cameras(sys_root),
        "microphone": lambda: check_microphone(sys_root),
        "screen": lambda: check_screen(sys_root),
        **{f"serial {port}": functools.partial(check_serial, port, sys_root) for port in ports},
        "indicator": lambda: check_indicator(config.indicator, sys_root),
        "service": lambda: check_service(sys_root),
        "user": lambda: check_user(sys_root),
        "folders": lambda: check_folders(sys_root),
        "config": lambda: check_config(sys_root),
        "jetpack": lambda: check_jetpack(sys_root),
        "opencv": check_opencv,
        "jetson": check_jetson_utils,
        "gpu": lambda: check_gpu(gpu),
        "tensorrt": lambda: check_tensorrt(gpu),
        "numba.cuda": lambda: check_kernels(gpu),
        "capture": check_capture_path,
        "engines": lambda: check_engine_cache(gpu, environment),
        "board": lambda: check_board(sys_root),
        "governor": lambda: check_governor(sys_root),
        "priority": lambda: check_priority(sys_root),
        "memory": lambda: check_memory(sys_root),
        "cache": lambda: check_cache(environment),
    }
    for name, check in checks.items():
        found[name] = _run_check(name, check)
    return list(found.values())


def _run_check(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        return Check(name, "fail", f"could not be checked: {type(error).__name__}: {error}")


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    text = ".".join(map(str, version))
    if version < (3, 10):
        return Check("python", "fail", f"{text} is too old: install 3.10 or newer")
    if version >= (3, 14):
        return Check("python", "warn", f"{text} is newer than what is tested (3.10 to 3.13)")
    return Check("python", "ok", text)


def check_cameras(sys_root: Path, may_open: Callable[[Path], bool] = may_open) -> Check:
    devices = sorted((sys_root / "dev").glob("video*"))
    if not devices:
        return Check("camera", "warn", "no /dev/video*: plug one in, or run a file or the demo")
    usable = [device.name for device in devices if may_open(device)]
    if not usable:
        hint = join_group("video")
        return Check("camera", "fail", f"no permission for /dev/{devices[0].name}: {hint}")
    return Check("camera", "ok", ", ".join(f"/dev/{name}" for name in usable))


def check_microphone(
    sys_root: Path,
    list_microphones: Callable[[], Collection[str]] = list_microphones,
    may_open: Callable[[Path], bool] = may_open,
) -> Check:
    try:
        names = list_microphones()
    except SourceError:
        how = "sudo apt install portaudio19-dev python3-dev gcc, then pip install pyaudio"
        return Check("microphone", "warn", f"PyAudio is not installed, sound is off: {how}")
    closed = [path for path in sorted((sys_root / "dev/snd").glob("pcm*c")) if not may_open(path)]
    if names:
        return Check("microphone", "ok", ", ".join(names))
    if closed:
        hint = join_group("audio")
        return Check("microphone", "fail", f"no permission for /dev/snd/{closed[0].name}: {hint}")
    return Check("microphone", "warn", "PortAudio finds no input device: plug one in")


def list_distributions() -> set[str]:
    """Every installed package, its name in lower case with dashes."""
    names = (found.metadata["Name"] or "" for found in importlib.metadata.distributions())
    return {name.lower().replace("_", "-") for name in names}


def check_opencv(installed: Collection[str] | None = None) -> Check:
    """Two builds of OpenCV overwrite each other's files."""
    names = list_distributions() if installed is None else installed
    others = sorted({"opencv-python", "opencv-contrib-python"} & set(names))
    if others and "opencv-python-headless" in names:
        remove = f"pip uninstall {' '.join(others)}"
        again = "pip install --force-reinstall --no-deps 'opencv-python-headless<5'"
        return Check("opencv", "warn", f"a GUI build is installed too: {remove}, then {again}")
    return Check("opencv", "ok", "one build")


def check_jetson_utils(
    installed: Collection[str] | None = None,
    has_module: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> Check:
    """The package index has something else under the name of NVIDIA's camera library."""
    names = list_distributions() if installed is None else installed
    if has_module("jetson_utils_python"):
        return Check("jetson", "ok", "jetson-utils has its native part")
    if "jetson-utils" in names:
        how = "pip uninstall jetson-utils, then build github.com/dusty-nv/jetson-utils"
        return Check("jetson", "fail", f"the jetson-utils of pip is a wrong package: {how}")
    return Check("jetson", "ok", "no jetson-utils, which only a Jetson needs")


def check_governor(sys_root: Path) -> Check:
    governor = read_governor(sys_root)
    if governor is None:
        return Check("governor", "ok", "the system keeps the clock rate to itself")
    if governor != "performance":
        files = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        how = f"echo performance | sudo tee {files}"
        return Check("governor", "warn", f"{governor} adds latency after every pause: {how}")
    return Check("governor", "ok", governor)


def check_priority(
    sys_root: Path, realtime_permitted: Callable[[], bool] = realtime_permitted
) -> Check:
    """Without it a busy machine makes results late, and the quality level goes down."""
    if realtime_permitted():
        return Check("priority", "ok", "results go before other programs")
    if is_installed(sys_root):
        return Check("priority", "ok", "the service's results go first (LimitRTPRIO= of its unit)")
    limit = (
        f'echo "$USER - rtprio {DEVICE_PRIORITY}"'
        " | sudo tee /etc/security/limits.d/emotion-edge.conf"
    )
    how = f"{limit}, then log in again"
    return Check("priority", "warn", f"results cannot go before other programs: {how}")


def check_memory(sys_root: Path) -> Check:
    for line in (sys_root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free_mb = int(line.split()[1]) // 1024
            if free_mb < MIN_MEMORY_MB:
                how = f"{MIN_MEMORY_MB} are needed, close other programs"
                return Check("memory", "warn", f"{free_mb} MB available: {how}")
            return Check("memory", "ok", f"{free_mb} MB available")
    return Check("memory", "warn", "/proc/meminfo does not say what is available")


def check_cache(
    environment: Mapping[str, str], kernels: Path = FOLDERS / "kernels" / "cpu"
) -> Check:
    """Where numba keeps compiled code: NUMBA_CACHE_DIR, else by the source, else at home."""
    chosen = environment.get("NUMBA_CACHE_DIR")
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(chosen)] if chosen else []
    folders += [kernels / "__pycache__", home / "numba"]
    usable = next((folder for folder in folders if is_writable(folder)), None)
    if usable is None:
        how = "set NUMBA_CACHE_DIR to a folder that may be written"
        return Check("cache", "fail", f"cannot write {' or '.join(map(str, folders))}: {how}")
    if chosen and usable != Path(chosen):
        return Check("cache", "warn", f"NUMBA_CACHE_DIR={chosen} cannot be written: using {usable}")
    return Check("cache", "ok", str(usable))
