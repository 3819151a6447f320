"""The doctor's checks of the installed service, on healthy and broken ones."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor import service
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.service import (
    EXIT_CODES,
    FOLDERS,
    NOT_INSTALLED,
    RESULTS,
    UNIT,
    check_config,
    check_folders,
    check_service,
    check_user,
    is_running,
    show_unit,
    verify_unit,
)

from ..board.trees import write_files

SERVICE_FILE = "etc/emotion-edge/config.yaml"

RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "0",
    "StatusText": "30 fps",
}
GROUP = "root:x:0:\nvideo:x:44:emotion-edge\nrender:x:105:ubuntu,emotion-edge\n"


@pytest.fixture(autouse=True)
def _systemd_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test fails because the programs it starts take their time."""
    monkeypatch.setattr(service, "TIMEOUT_S", 500.0)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A root folder with the unit, its user and its configuration."""
    write_files(
        tmp_path,
        {
            f"etc/systemd/system/{UNIT}": "[Service]\n",
            "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nemotion-edge:x:999:999::/:/bin/false\n",
            "etc/group": GROUP + "audio:x:29:emotion-edge\ndialout:x:20:emotion-edge\n",
            SERVICE_FILE: "source:\n  name: camera\n",
        },
    )
    return tmp_path


def show(**changes: str) -> Callable[[], Mapping[str, str]]:
    return lambda: {**RUNNING, **changes}


def no_output() -> str:
    return ""


def test_not_installed(tmp_path: Path) -> None:
    """A PC without the service is ok, and systemd is not asked."""

    def fail() -> Mapping[str, str]:
        raise AssertionError

    assert check_service(tmp_path, fail) == Check("service", "ok", NOT_INSTALLED)
    assert not is_running(tmp_path, fail)
    assert check_user(tmp_path) == Check("user", "ok", NOT_INSTALLED)
    assert check_folders(tmp_path) == Check("folders", "ok", NOT_INSTALLED)
    assert check_config(tmp_path) == Check("config", "ok", NOT_INSTALLED)


def test_image_under_construction(device: Path) -> None:
    assert check_service(device, dict, no_output).state == "ok"


def test_running(device: Path) -> None:
    """The message has its state, its status text and its restarts."""
    assert check_service(device, show(), no_output) == Check("service", "ok", "active, 30 fps")
    check = check_service(device, show(NRestarts="3"), no_output)
    assert check == Check("service", "ok", "active, 30 fps, 3 restarts")


EXIT_CODE = "exit-code"


@pytest.mark.parametrize(
    ("result", "status", "meaning"),
    [
        *((EXIT_CODE, code, meaning) for code, meaning in EXIT_CODES.items()),
        *((name, "9", meaning.format(status=9)) for name, meaning in RESULTS.items()),
        (EXIT_CODE, "77", "code 77"),
        ("of-a-later-systemd", "0", "of-a-later-systemd"),
    ],
)
def test_failed(device: Path, result: str, status: str, meaning: str) -> None:
    """The message has the cause, the number of restarts and the command that shows the journal."""
    failure = {"Result": result, "ExecMainStatus": status}
    unit = show(ActiveState="failed", SubState="failed", NRestarts="10", **failure)
    check = check_service(device, unit, no_output)
    assert check.state == "fail"
    for part in ("10 restarts", meaning, "journalctl -u emotion-edge"):
        assert part in check.message


def test_failed_at_once(device: Path) -> None:
    unit = show(ActiveState="failed", Result=EXIT_CODE, ExecMainStatus="2")
    assert "restarts" not in check_service(device, unit, no_output).message


def test_between_two_starts(device: Path) -> None:
    """The service is neither ok nor failed."""
    unit = show(ActiveState="activating", SubState="auto-restart", NRestarts="4", Result="watchdog")
    check = check_service(device, unit, no_output)
    assert check.state == "warn"
    assert "4x" in check.message
    assert RESULTS["watchdog"] in check.message


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"UnitFileState": "disabled"}, "sudo systemctl enable --now"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "sudo systemctl start"),
    ],
)
def test_not_enabled_or_not_started(device: Path, changes: dict[str, str], remedy: str) -> None:
    check = check_service(device, show(**changes), no_output)
    assert (check.state, remedy in check.message) == ("warn", True)


def test_wrong_setting(device: Path) -> None:
    """An ignored setting is a warning. A unit that systemd refuses is a failure."""
    line = "/etc/systemd/system/emotion-edge.service.d/override.conf:2: Unknown key name 'Watch'"
    ignored = check_service(device, show(), lambda: line)
    assert (ignored.state, line in ignored.message) == ("warn", True)
    refused = check_service(device, show(LoadState="bad-setting"), lambda: line)
    assert refused == Check("service", "fail", f"the unit is bad-setting: {line}")
    masked = check_service(device, show(LoadState="masked"), no_output)
    assert masked == Check("service", "fail", f"the unit is masked: systemd-analyze verify {UNIT}")


def test_systemd_that_hangs(device: Path) -> None:

    def hang() -> Mapping[str, str]:
        raise subprocess.TimeoutExpired("systemctl", 5)

    assert is_running(device, hang)
    assert check_service(device, hang, no_output).state == "warn"


def add_program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_answers_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties and the first complaint are read. A status text may hold "="."""
    add_program(
        tmp_path, "systemctl", "echo LoadState=loaded; echo 'StatusText=fps=30'; echo $*>&2"
    )
    complaint = "emotion-edge.service:4: Unknown key name 'Watch', ignoring."
    add_program(tmp_path, "systemd-analyze", f'echo other.service: no >&2; echo "{complaint}" >&2')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(service, "TIMEOUT_S", 500)
    assert show_unit() == {"LoadState": "loaded", "StatusText": "fps=30"}
    assert verify_unit() == complaint


def test_systemd_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container systemctl is missing or fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(service, "TIMEOUT_S", 500)
    assert (show_unit(), verify_unit()) == ({}, "")
    add_program(tmp_path, "systemctl", "echo System has not been booted >&2; exit 1")
    assert show_unit() == {}


def test_systemctl_is_stopped_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = shutil.which("sleep")
    add_program(tmp_path, "systemctl", f"exec {sleep} 100")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(service, "TIMEOUT_S", 0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        show_unit()


def test_user(device: Path) -> None:
    """A user in all groups, one in too few, and no user."""
    message = "emotion-edge, in video, render, audio, dialout"
    assert check_user(device) == Check("user", "ok", message)
    (device / "etc/group").write_text(GROUP + "audio:x:29:not-emotion-edge\n")
    check = check_user(device)
    assert check.state == "fail"
    assert "sudo usermod -aG audio,dialout emotion-edge" in check.message
    (device / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nrubbish\n")
    check = check_user(device)
    assert (check.state, "sudo systemd-sysusers" in check.message) == ("fail", True)


@pytest.mark.parametrize(
    ("state", "running"),
    [
        ("active", True),
        ("activating", True),
        ("deactivating", True),
        ("failed", False),
        ("inactive", False),
    ],
)
def test_service_is_running(device: Path, state: str, running: bool) -> None:
    """A starting or stopping service counts. Without systemd none runs."""
    assert is_running(device, show(ActiveState=state)) is running
    assert not is_running(device, dict)


def test_folders(device: Path) -> None:
    """Folders of another user, such as root, are named with the command that changes that."""
    passwd = device / "etc/passwd"
    passwd.write_text(f"emotion-edge:x:{os.getuid()}:1::/:/bin/false\n")
    for folder in FOLDERS[:-1]:
        (device / folder).mkdir(parents=True)
    assert check_folders(device).state == "ok"
    passwd.write_text(f"emotion-edge:x:{os.getuid() + 1}:1::/:/bin/false\n")
    check = check_folders(device)
    assert check.state == "warn"
    names = " ".join(f"/{folder}" for folder in FOLDERS[:-1])
    assert check.message.endswith(f"sudo chown -R emotion-edge: {names}")
    (device / "etc/passwd").write_text("")  # check_user reports that
    assert check_folders(device).state == "warn"


def test_config(device: Path) -> None:
    """The message is one line with the source and the sinks, or with the fault."""
    check = check_config(device)
    assert check == Check("config", "ok", f"{device / SERVICE_FILE}: camera to console")
    (device / SERVICE_FILE).write_text("source:\n  nam: camera\n")
    check = check_config(device)
    assert check.state == "fail"
    assert "nam" in check.message
    assert "\n" not in check.message
    (device / SERVICE_FILE).unlink()
    check = check_config(device)
    assert (check.state, str(device / SERVICE_FILE) in check.message) == ("fail", True)
