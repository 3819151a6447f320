"""Checks of the installed service: its unit, its user, its folders, its configuration.

In: the root folder, and what systemd reports. Out: one `Check` each. Every check is ok where the
program is not installed as a service. Units and users are read from their files, so an image under
construction can be checked too. Only the state of the service is asked of systemd, with a time
limit.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..capture import show_source
from ..config import ConfigError, load_config
from ..service import SERVICE_CONFIG
from .check import Check

UNIT = "emotion-edge.service"
UNIT_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
USER = "emotion-edge"
GROUPS = ("video", "render", "audio", "dialout")
"""Owners of the devices: cameras and GPU, the GPU's render node, audio, serial ports."""
FOLDERS = (
    "var/lib/emotion-edge",
    "var/lib/emotion-edge/bundles",
    "var/cache/emotion-edge",
    "var/cache/emotion-edge/engines",
    "var/cache/emotion-edge/numba",
)
"""Folders that the service writes to."""
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
    "protocol": "it ended before it was ready",
    "resources": "systemd could not provide what its unit asks for",
    "signal": "it was killed by signal {status}",
    "start-limit-hit": "it failed too often",
    "timeout": "its start or its stop took too long",
    "watchdog": "it hung: no frame was processed within the watchdog's time",
}
"""Meaning of systemd's results (systemd.service(5), SERVICE_RESULT)."""
EXIT_CODES = {
    "1": "a bug of the program",
    "2": "a usage error, so it is not started again",
    "3": "the GPU hung",
    "4": "a bundle, an engine, a device or a file is faulty",
    "203": "/opt/emotion-edge/venv/bin/emotion-edge cannot be executed",
    "217": f"there is no user {USER}: sudo systemd-sysusers",
    "226": "its folders could not be set up",
}
"""The program's own, and those of systemd.exec(5)."""


def show_unit() -> Mapping[str, str]:
    """Return `PROPERTIES` of the service; none where systemd does not run. Raises
    TimeoutExpired."""
    answer = _run(["systemctl", "show", UNIT, f"--property={','.join(PROPERTIES)}"])
    if answer is None or answer.returncode:
        return {}
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def verify_unit() -> str:
    """Return the first complaint about the unit and its drop-ins, else "". Raises
    TimeoutExpired."""
    answer = _run(["systemd-analyze", "verify", UNIT])
    lines = answer.stderr.splitlines() if answer is not None else []
    return next((line for line in lines if "emotion-edge" in line), "")


def check_service(
    sys_root: Path = Path("/"),
    show: Callable[[], Mapping[str, str]] = show_unit,
    verify: Callable[[], str] = verify_unit,
) -> Check:
    """Check that the unit is installed, valid, enabled and running."""
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
        remedy = f"systemd-analyze verify {UNIT}"
        return Check(
            "service", "fail", f"the unit is {unit.get('LoadState')}: {complaint or remedy}"
        )
    state = unit.get("ActiveState", "")
    restarts = unit.get("NRestarts", "0")
    if state == "failed":
        again = f", after {restarts} restarts" if restarts not in ("", "0") else ""
        return Check("service", "fail", f"failed{again}: {explain_failure(unit)}: {JOURNAL}")
    if unit.get("SubState") == "auto-restart":
        text = f"is restarting ({restarts}x so far): {explain_failure(unit)}: {JOURNAL}"
        return Check("service", "warn", text)
    if complaint:
        return Check("service", "warn", f"systemd ignores a setting: {complaint}")
    if unit.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        remedy = f"sudo systemctl enable --now {UNIT}"
        return Check("service", "warn", f"{state}, and does not start with the system: {remedy}")
    if state == "inactive":
        return Check("service", "warn", f"does not run: sudo systemctl start {UNIT}")
    facts = [state, *([unit["StatusText"]] if unit.get("StatusText") else [])]
    if restarts not in ("", "0"):
        facts.append(f"{restarts} restarts")
    return Check("service", "ok", ", ".join(facts))


def is_running(
    sys_root: Path = Path("/"), show: Callable[[], Mapping[str, str]] = show_unit
) -> bool:
    """Return whether the service may have its devices open. Without an answer of systemd, it
    may."""
    if not is_installed(sys_root):
        return False
    try:
        return show().get("ActiveState", "inactive") not in ("inactive", "failed")
    except subprocess.TimeoutExpired:
        return True


def is_installed(sys_root: Path) -> bool:
    return any((sys_root / folder / UNIT).exists() for folder in UNIT_FOLDERS)


def explain_failure(unit: Mapping[str, str]) -> str:
    """Return why the service ended, from systemd's properties."""
    result, status = unit.get("Result", ""), unit.get("ExecMainStatus", "")
    if result == "exit-code":
        meaning = EXIT_CODES.get(status)
        return f"it ended with code {status}" + (f", {meaning}" if meaning else "")
    return RESULTS.get(result, f"systemd's result is {result!r}").format(status=status)


def check_user(sys_root: Path = Path("/")) -> Check:
    """Check the service's user and its groups."""
    if not is_installed(sys_root):
        return Check("user", "ok", NOT_INSTALLED)
    if USER not in _read_names(sys_root / "etc/passwd"):
        remedy = "sudo systemd-sysusers /etc/sysusers.d/emotion-edge.conf"
        return Check("user", "fail", f"there is no user {USER}: {remedy}")
    members = _read_names(sys_root / "etc/group", field=3)
    missing = [group for group in GROUPS if USER not in members.get(group, ())]
    if missing:
        remedy = f"sudo usermod -aG {','.join(missing)} {USER} && sudo systemctl restart {UNIT}"
        return Check("user", "fail", f"{USER} is not in {', '.join(missing)}: {remedy}")
    return Check("user", "ok", f"{USER}, in {', '.join(GROUPS)}")


def check_folders(sys_root: Path = Path("/")) -> Check:
    """Check that the service owns its folders. It stores no engines in a folder of root's."""
    if not is_installed(sys_root):
        return Check("folders", "ok", NOT_INSTALLED)
    user, *_ = _read_names(sys_root / "etc/passwd", field=2).get(USER, [""])
    foreign = []
    for folder in FOLDERS:
        with suppress(FileNotFoundError, PermissionError):  # made later, or not readable
            if str((sys_root / folder).stat().st_uid) != user:
                foreign.append(f"/{folder}")
    if foreign:
        names = " ".join(foreign)
        remedy = f"sudo chown -R {USER}: {names}"
        return Check("folders", "warn", f"the service does not own them: {remedy}")
    return Check("folders", "ok", f"owned by {USER}")


def check_config(sys_root: Path = Path("/")) -> Check:
    """Load the service's configuration as the program does."""
    file = sys_root / SERVICE_CONFIG.relative_to("/")
    if not is_installed(sys_root):
        return Check("config", "ok", NOT_INSTALLED)
    try:
        config = load_config(file)
    except ConfigError as error:
        return Check("config", "fail", str(error))
    return Check(
        "config",
        "ok",
        f"{file}: {show_source(config.source.name)} to {', '.join(config.output.sinks)}",
    )


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
    """Map the first field of each line of passwd(5) or group(5) to another one, split at commas."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = [line.split(":") for line in lines]
    return {row[0]: row[field].split(",") for row in rows if len(row) > field}
