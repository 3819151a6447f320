"""The report of `emotion-edge doctor`: every check in turn, one line each.

In: a bundle and a configuration, or those of the service. Out: the lines and the exit code.

Checks are functions from the machine to a `Check`. The root folder and the functions that ask the
machine are arguments, so tests can present a broken machine. No check changes anything, except
that the capture check turns the indicator on while it reads a frame.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ...kernels import has_gpu
from ..capture import list_cameras
from ..config import Config, ConfigError, load_config
from ..service import find_service_config
from .check import Check
from .devices import (
    check_cameras,
    check_indicator,
    check_microphone,
    check_screen,
    check_serial,
)
from .gpu import check_capture, check_engine_cache, check_gpu, check_kernels, check_tensorrt
from .host import (
    check_board,
    check_bundle,
    check_cache,
    check_governor,
    check_jetpack,
    check_jetson_utils,
    check_memory,
    check_opencv,
    check_priority,
    check_python,
)
from .ports import list_port_checks
from .service import check_config, check_folders, check_service, check_user, is_running
from .source import check_source


def run_doctor(bundle: Path | None = None, config: Config | None = None) -> int:
    """Print every check on a line of its own. Return 1 when one failed, else 0."""
    checks = run_checks(bundle, config or find_config())
    for check in checks:
        print(f"{check.state:<4}  {check.name:<10}  {check.message}")
    return int(any(check.state == "fail" for check in checks))


def find_config() -> Config | None:
    """Load the service's configuration, else the default; None where it is refused."""
    try:
        return load_config(find_service_config())
    except ConfigError:  # check_config reports it
        return None


def run_checks(
    bundle: Path | None = None,
    config: Config | None = Config(),  # noqa: B008 - frozen
    sys_root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
) -> list[Check]:
    """Run every check for what `config` asks of the machine. Raises nothing.

    None stands for a configuration that is refused: the defaults apply, and no camera is read.
    """
    is_refused, config = config is None, config or Config()
    gpu = has_gpu(sys_root / "dev")
    ports = [spec.partition(":")[2] for spec in config.output.sinks if spec.startswith("serial:")]
    done: dict[str, Check] = {}

    def reads_on_gpu() -> bool:
        """Return whether a run would read frames in the GPU's memory."""
        return gpu and all(done[name].state == "ok" for name in ("gpu", "tensorrt", "numba.cuda"))

    def check_capture_path() -> Check:
        """Read a camera only where a run may, and never beside a run."""
        if is_refused:
            return Check("capture", "warn", "not tried: the configuration is refused")
        if is_running(sys_root):
            return Check("capture", "ok", "not tried: the service is using it")
        cameras = list_cameras(str(sys_root / "dev"))
        return check_capture(reads_on_gpu(), cameras, config.indicator, sys_root)

    def check_configured_source() -> Check:
        may_connect = not (is_refused or is_running(sys_root))
        return check_source(config.source, config.indicator, may_connect, sys_root)

    checks: dict[str, Callable[[], Check]] = {
        "python": check_python,
        "bundle": lambda: check_bundle(bundle, config),
        "camera": lambda: check_cameras(sys_root),
        "source": check_configured_source,
        "microphone": lambda: check_microphone(sys_root),
        "screen": lambda: check_screen(sys_root),
        **{f"serial {port}": functools.partial(check_serial, port, sys_root) for port in ports},
        **list_port_checks(config, lambda: is_running(sys_root)),
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
        done[name] = _run_check(name, check)
    return list(done.values())


def _run_check(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        return Check(name, "fail", f"could not be checked: {type(error).__name__}: {error}")
