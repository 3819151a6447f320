"""The doctor's looks at the installed service: its unit, its user, its configuration, its board.

Where the program is not installed as a service, each of them is well. Units and users are read
from their files, so that an image that is being made can be looked at too; only how the service is
doing is asked of systemd, which has a few seconds to answer.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..board import is_jetson, name_jetpack, read_bytes, read_l4t, read_name
from ..config import ConfigError, load_config
from ..service import SERVICE_CONFIG
from .check import Check

UNIT = "emotion-edge.service"
UNIT_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
USER = "emotion-edge"
GROUPS = ("video", "render", "audio", "dialout")
"""Of the devices: cameras and GPU, the GPU's render node, sound, serial ports."""
FOLDERS = (
    "var/lib/emotion-edge",
    "var/lib/emotion-edge/bundles",
    "var/cache/emotion-edge",
    "var/cache/emotion-edge/engines",
    "var/cache/emotion-edge/numba",
)
"""What the service writes to."""
L4T_VERSIONS = (((36, 4), (37,)), ((39,), (40,)))
"""From, and below: JetPack 6 since 6.1 (6.0 has TensorRT 8), and 7 since 7.2 (before, it was for
Thor alone)."""
TIMEOUT_S = 5.0
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "StatusText",
)
NOT_INSTALLED = "not installed as a service"
JOURNAL = "journalctl -u emotion-edge -n 50"
RESULTS = {
    "core-dump": "it crashed",
    "oom-kill": "it needed more memory than it may have",
    "protocol": "it ended without having been ready",
    "resources": "systemd could not give it what its unit asks for",
    "signal": "it was killed by signal {status}",
    "start-limit-hit": "it failed too often",
    "timeout": "it was not ready, or not gone, in time",
    "watchdog": "it hung: no picture went through for as long as the watchdog waits",
}
"""What systemd calls a failure (systemd.service(5), SERVICE_RESULT)."""
EXIT_CODES = {
    "1": "a fault of the program itself",
    "2": "it was told something wrong, so it is not started again",
    "3": "the GPU hung",
    "4": "a bundle, an engine, a device or a file is not as it should be",
    "203": "/opt/emotion-edge/venv/bin/emotion-edge cannot be executed",
    "217": f"there is no user {USER}: sudo systemd-sysusers",
    "226": "its folders could not be set up",
}
"""The program's own, and those of systemd.exec(5)."""


def show_unit() -> Mapping[str, str]:
    """`PROPERTIES` of the service; nothing where systemd does not run. Raises TimeoutExpired."""
    answer = _run(["systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}"])
    if answer is None or answer.returncode:
        return {}
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def verify_unit() -> str:
    """The first complaint about the unit and its drop-ins, "" without any. Raises
    TimeoutExpired."""
    answer = _run(["systemd-analyze", "verify", UNIT])
    lines = answer.stderr.splitlines() if answer is not None else []
    return next((line for line in lines if "emotion-edge" in line), "")


def check_service(
    sys_root: Path = Path("/"),
    show: Callable[[], Mapping[str, str]] = show_unit,
    verify: Callable[[], str] = verify_unit,
) -> Check:
    """Whether the unit is there, sound, enabled and running, and else why not."""
    if not is_installed(sys_root):
        return Check("service", "ok", NOT_INSTALLED)
    try:
        unit = show()
        complaint = verify() if unit else ""
    except subprocess.TimeoutExpired:
        return Check("service", "warn", f"systemd has not answered for {TIMEOUT_S:.0f} s")
    if not unit:
        return Check("service", "ok", "installed, and systemd does not run here")
    if unit.get("LoadState") != "loaded":
        how = f"systemd-analyze verify {UNIT}"
        return Check("service", "fail", f"the unit is {unit.get('LoadState')}: {complaint or how}")
    state = unit.get("ActiveState", "")
    restarts = unit.get("NRestarts", "0")
    if state == "failed":
        again = f", after {restarts} restarts" if restarts not in ("", "0") else ""
        return Check("service", "fail", f"failed{again}: {explain_failure(unit)}: {JOURNAL}")
    if unit.get("SubState") == "auto-restart":
        text = f"is being started again ({restarts}x so far): {explain_failure(unit)}: {JOURNAL}"
        return Check("service", "warn", text)
    if complaint:
        return Check("service", "warn", f"a setting is not understood: {complaint}")
    if unit.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        how = f"sudo systemctl enable --now {UNIT}"
        return Check("service", "warn", f"{state}, and does not start with the system: {how}")
    if state == "inactive":
        return Check("service", "warn", f"does not run: sudo systemctl start {UNIT}")
    facts = [state, *([unit["StatusText"]] if unit.get("StatusText") else [])]
    if restarts not in ("", "0"):
        facts.append(f"{restarts} restarts")
    return Check("service", "ok", ", ".join(facts))


def is_running(
    sys_root: Path = Path("/"), show: Callable[[], Mapping[str, str]] = show_unit
) -> bool:
    """Whether the service may have its devices open; also where systemd does not say."""
    if not is_installed(sys_root):
        return False
    try:
        return show().get("ActiveState", "inactive") not in ("inactive", "failed")
    except subprocess.TimeoutExpired:
        return True


def is_installed(sys_root: Path) -> bool:
    return any((sys_root / folder / UNIT).exists() for folder in UNIT_FOLDERS)


def explain_failure(unit: Mapping[str, str]) -> str:
    """Why the service ended, from what systemd says of it."""
    result, status = unit.get("Result", ""), unit.get("ExecMainStatus", "")
    if result == "exit-code":
        meaning = EXIT_CODES.get(status)
        return f"it ended with code {status}" + (f", {meaning}" if meaning else "")
    return RESULTS.get(result, f"systemd calls it {result!r}").format(status=status)


def check_user(sys_root: Path = Path("/")) -> Check:
    """The service's user and its groups."""
    if not is_installed(sys_root):
        return Check("user", "ok", NOT_INSTALLED)
    if USER not in _read_names(sys_root / "etc/passwd"):
        how = "sudo systemd-sysusers /etc/sysusers.d/emotion-edge.conf"
        return Check("user", "fail", f"there is no user {USER}: {how}")
    members = _read_names(sys_root / "etc/group", field=3)
    missing = [group for group in GROUPS if USER not in members.get(group, ())]
    if missing:
        how = f"sudo usermod -aG {','.join(missing)} {USER} && sudo systemctl restart {UNIT}"
        return Check("user", "fail", f"{USER} is not in {', '.join(missing)}: {how}")
    return Check("user", "ok", f"{USER}, in {', '.join(GROUPS)}")


def check_folders(sys_root: Path = Path("/")) -> Check:
    """Whether the service's folders are its own. Where root has made one, no engine is kept."""
    if not is_installed(sys_root):
        return Check("folders", "ok", NOT_INSTALLED)
    user, *_ = _read_names(sys_root / "etc/passwd", field=2).get(USER, [""])
    foreign = []
    for folder in FOLDERS:
        with suppress(FileNotFoundError, PermissionError):  # later, or not for us to look at
            if str((sys_root / folder).stat().st_uid) != user:
                foreign.append(f"/{folder}")
    if foreign:
        names = " ".join(foreign)
        how = f"sudo chown -R {USER}: {names}"
        return Check("folders", "warn", f"not the service's, which keeps nothing there: {how}")
    return Check("folders", "ok", f"{USER}'s own")


def check_config(sys_root: Path = Path("/")) -> Check:
    """The service's configuration, read as the program reads it."""
    file = sys_root / SERVICE_CONFIG.relative_to("/")
    if not is_installed(sys_root):
        return Check("config", "ok", NOT_INSTALLED)
    try:
        config = load_config(file)
    except ConfigError as error:
        return Check("config", "fail", str(error))
    return Check(
        "config", "ok", f"{file}: {config.source.name} to {', '.join(config.output.sinks)}"
    )


def check_jetpack(sys_root: Path = Path("/")) -> Check:
    """Supported are Orin Nano, NX and AGX (one chip, tegra234) with `L4T_VERSIONS`."""
    if not is_jetson(sys_root):
        return Check("jetpack", "ok", "not a Jetson")
    board = read_name(f"{sys_root}/proc/device-tree/model") or "a Jetson that does not say which"
    compatible = read_bytes(f"{sys_root}/proc/device-tree/compatible") or b""
    if b"nvidia,tegra234" not in compatible.split(b"\0"):
        text = f"{board} is not supported: it takes a Jetson Orin Nano, NX or AGX"
        return Check("jetpack", "fail", text)
    l4t = read_l4t(sys_root)
    if l4t is None:
        text = f"{board}: /etc/nv_tegra_release does not say which JetPack this is"
        return Check("jetpack", "warn", text)
    version = tuple(map(int, l4t.split(".")))
    if not any(low <= version < high for low, high in L4T_VERSIONS):
        how = "flash JetPack 6.1, 6.2 or 7.2 (L4T 36.4 or newer, or 39)"
        return Check("jetpack", "fail", f"{board}: L4T {l4t} is not supported: {how}")
    return Check("jetpack", "ok", f"{board}, JetPack {name_jetpack(l4t)}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )
    except OSError:
        return None


def _read_names(file: Path, field: int = 1) -> dict[str, list[str]]:
    """First field of each line of passwd(5) or group(5) -> what stands in another, split."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = [line.split(":") for line in lines]
    return {row[0]: row[field].split(",") for row in rows if len(row) > field}
