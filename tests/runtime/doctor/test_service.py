"""The doctor's looks at the installed service, shown healthy and broken ones."""

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
    FOLDERS,
    NOT_INSTALLED,
    UNIT,
    check_config,
    check_folders,
    check_jetpack,
    check_service,
    check_user,
    is_running,
    show_unit,
    verify_unit,
)

from ..board.trees import (
    AGX_ORIN,
    JETPACK_7,
    ORIN_NANO,
    ORIN_NX,
    Module,
    build_jetson,
    build_pc,
    write_files,
)

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
    """A PC without the service is well, and systemd is not even asked."""

    def fail() -> Mapping[str, str]:
        raise AssertionError

    assert check_service(tmp_path, fail) == Check("service", "ok", NOT_INSTALLED)
    assert not is_running(tmp_path, fail)
    assert check_user(tmp_path) == Check("user", "ok", NOT_INSTALLED)
    assert check_folders(tmp_path) == Check("folders", "ok", NOT_INSTALLED)
    assert check_config(tmp_path) == Check("config", "ok", NOT_INSTALLED)


def test_image_that_is_being_made(device: Path) -> None:
    """All files are there, and no systemd."""
    check = check_service(device, dict, no_output)
    assert check == Check("service", "ok", "installed, and systemd does not run here")


def test_running(device: Path) -> None:
    """With its own words on how it is, and how often it had to be restarted."""
    assert check_service(device, show(), no_output) == Check("service", "ok", "active, 30 fps")
    check = check_service(device, show(NRestarts="3"), no_output)
    assert check == Check("service", "ok", "active, 30 fps, 3 restarts")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Result": "exit-code", "ExecMainStatus": "2"}, "code 2, it was told something wrong"),
        ({"Result": "exit-code", "ExecMainStatus": "3"}, "code 3, the GPU hung"),
        ({"Result": "exit-code", "ExecMainStatus": "4"}, "code 4, a bundle, an engine, a device"),
        ({"Result": "exit-code", "ExecMainStatus": "203"}, "emotion-edge cannot be executed"),
        ({"Result": "exit-code", "ExecMainStatus": "217"}, "no user emotion-edge"),
        ({"Result": "exit-code", "ExecMainStatus": "77"}, "it ended with code 77: journalctl"),
        ({"Result": "signal", "ExecMainStatus": "9"}, "killed by signal 9"),
        ({"Result": "watchdog", "ExecMainStatus": "6"}, "it hung"),
        ({"Result": "timeout"}, "not ready, or not gone, in time"),
        ({"Result": "oom-kill"}, "more memory than it may have"),
        ({"Result": "start-limit-hit"}, "failed too often"),
        ({"Result": "of-a-later-systemd"}, "systemd calls it 'of-a-later-systemd'"),
    ],
)
def test_failed(device: Path, changes: dict[str, str], why: str) -> None:
    """Why, after how many tries, and where more stands."""
    unit = show(ActiveState="failed", SubState="failed", NRestarts="10", **changes)
    check = check_service(device, unit, no_output)
    assert check.state == "fail"
    assert check.message.startswith("failed, after 10 restarts: ")
    assert why in check.message
    assert "journalctl -u emotion-edge" in check.message


def test_failed_at_once(device: Path) -> None:
    """Without a restart none is spoken of."""
    unit = show(ActiveState="failed", Result="exit-code", ExecMainStatus="2")
    assert check_service(device, unit, no_output).message.startswith("failed: it ended")


def test_between_two_starts(device: Path) -> None:
    """It is neither well nor given up."""
    unit = show(ActiveState="activating", SubState="auto-restart", NRestarts="4", Result="watchdog")
    check = check_service(device, unit, no_output)
    assert check.state == "warn"
    assert "4x so far" in check.message
    assert "it hung" in check.message


def test_not_enabled_and_not_started(device: Path) -> None:
    """With the command that mends it."""
    check = check_service(device, show(UnitFileState="disabled"), no_output)
    assert (check.state, "sudo systemctl enable --now" in check.message) == ("warn", True)
    check = check_service(device, show(ActiveState="inactive", SubState="dead"), no_output)
    assert (check.state, "sudo systemctl start" in check.message) == ("warn", True)


def test_wrong_setting(device: Path) -> None:
    """One that systemd passes over is a warning, one for which it refuses the unit is not."""
    line = "/etc/systemd/system/emotion-edge.service.d/override.conf:2: Unknown key name 'Watch'"
    check = check_service(device, show(), lambda: line)
    assert check == Check("service", "warn", f"a setting is not understood: {line}")
    check = check_service(device, show(LoadState="bad-setting"), lambda: line)
    assert check == Check("service", "fail", f"the unit is bad-setting: {line}")
    check = check_service(device, show(LoadState="masked"), no_output)
    assert check == Check("service", "fail", f"the unit is masked: systemd-analyze verify {UNIT}")


def test_systemd_that_hangs(device: Path) -> None:
    """The doctor goes on."""

    def hang() -> Mapping[str, str]:
        raise subprocess.TimeoutExpired("systemctl", 5)

    assert is_running(device, hang)
    check = check_service(device, hang, no_output)
    assert check == Check("service", "warn", "systemd has not answered for 500 s")


def add_program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_what_is_asked_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of programs that answer as systemd's do; a status text may hold "="."""
    add_program(
        tmp_path, "systemctl", "echo LoadState=loaded; echo 'StatusText=fps=30'; echo $*>&2"
    )
    complaint = "emotion-edge.service:4: Unknown key name 'Watch', ignoring."
    add_program(tmp_path, "systemd-analyze", f'echo other.service: no >&2; echo "{complaint}" >&2')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert show_unit() == {"LoadState": "loaded", "StatusText": "fps=30"}
    assert verify_unit() == complaint


def test_systemd_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: it fails, or is not there at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (show_unit(), verify_unit()) == ({}, "")
    add_program(tmp_path, "systemctl", "echo System has not been booted >&2; exit 1")
    assert show_unit() == {}


def test_systemd_gets_a_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is ended when they are over."""
    sleep = shutil.which("sleep")
    add_program(tmp_path, "systemctl", f"exec {sleep} 100")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(service, "TIMEOUT_S", 0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        show_unit()


def test_user(device: Path) -> None:
    """In all groups, in too few, and none."""
    message = "emotion-edge, in video, render, audio, dialout"
    assert check_user(device) == Check("user", "ok", message)
    (device / "etc/group").write_text(GROUP + "audio:x:29:not-emotion-edge\n")
    check = check_user(device)
    assert check.state == "fail"
    assert check.message.startswith("emotion-edge is not in audio, dialout: ")
    how = "sudo usermod -aG audio,dialout emotion-edge && sudo systemctl restart"
    assert f"{how} emotion-edge.service" in check.message
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
    """Between two starts too; not where no systemd runs."""
    assert is_running(device, show(ActiveState=state)) is running
    assert not is_running(device, dict)


def test_folders(device: Path) -> None:
    """Those that are there are the service's; what root has made first keeps it out."""
    passwd = device / "etc/passwd"
    passwd.write_text(f"emotion-edge:x:{os.getuid()}:1::/:/bin/false\n")
    for folder in FOLDERS[:-1]:
        (device / folder).mkdir(parents=True)
    assert check_folders(device) == Check("folders", "ok", "emotion-edge's own")
    passwd.write_text(f"emotion-edge:x:{os.getuid() + 1}:1::/:/bin/false\n")
    check = check_folders(device)
    assert check.state == "warn"
    names = " ".join(f"/{folder}" for folder in FOLDERS[:-1])
    assert check.message.endswith(f"sudo chown -R emotion-edge: {names}")
    (device / "etc/passwd").write_text("")  # check_user speaks of that
    assert check_folders(device).state == "warn"


def test_config(device: Path) -> None:
    """Read as a run reads it: one line with what is wrong."""
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


@pytest.mark.parametrize("module", [ORIN_NANO, ORIN_NX, AGX_ORIN])
def test_supported_boards(tmp_path: Path, module: Module) -> None:
    """The three Orins with JetPack 6 and with 7."""
    check = check_jetpack(build_jetson(tmp_path / "six", module))
    assert check == Check("jetpack", "ok", f"{module.model}, JetPack 6.2.1")
    check = check_jetpack(build_jetson(tmp_path / "seven", module, JETPACK_7))
    assert check == Check("jetpack", "ok", f"{module.model}, JetPack 7.2")


@pytest.mark.parametrize("l4t", [("R35", "4.1"), ("R36", "3.0"), ("R38", "2.0"), ("R40", "1.0")])
def test_unsupported_jetpack(tmp_path: Path, l4t: tuple[str, str]) -> None:
    """Of before, with a TensorRT that is too old, of another board, one that nobody knows yet."""
    check = check_jetpack(build_jetson(tmp_path, ORIN_NX, l4t))
    assert check.state == "fail"
    assert f"L4T {l4t[0][1:]}." in check.message
    assert "JetPack 6.1, 6.2 or 7.2" in check.message


def test_unsupported_board(tmp_path: Path) -> None:
    """Named, with what is supported."""
    root = build_jetson(tmp_path, ORIN_NX)
    write_files(
        root,
        {
            "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0",
        },
    )
    check = check_jetpack(root)
    assert check.state == "fail"
    assert check.message.startswith("NVIDIA Jetson AGX Thor Developer Kit is not supported")


def test_unknown_board(tmp_path: Path) -> None:
    """A container shows the device tree and not the release; a PC is no Jetson."""
    root = build_jetson(tmp_path / "jetson", ORIN_NANO)
    (root / "etc/nv_tegra_release").unlink()
    assert check_jetpack(root).state == "warn"
    assert check_jetpack(build_pc(tmp_path / "pc")) == Check("jetpack", "ok", "not a Jetson")
