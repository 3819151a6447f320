"""The user and the folders, made by systemd-sysusers and systemd-tmpfiles."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.service import FOLDERS, GROUPS, USER, check_user

from .unit_root import SHIPPED, make_root, run_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create users and folders")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the service and its user."""
    root = make_root(tmp_path)
    done = run_tool("systemd-sysusers", f"--root={root}", SHIPPED / "emotion-edge.sysusers")
    assert done.returncode == 0, done.stderr
    return root


def test_user_has_its_groups(root: Path) -> None:
    """The doctor accepts it; it has no login."""
    check = check_user(root)
    assert (check.name, check.state) == ("user", "ok")
    groups = (root / "etc/group").read_text().splitlines()
    assert {line.split(":")[0] for line in groups if line.endswith(USER)} >= set(GROUPS)
    (line,) = [line for line in (root / "etc/passwd").read_text().splitlines() if USER in line]
    assert line.endswith(":/var/lib/emotion-edge:/usr/sbin/nologin")


def test_user_is_created_once(root: Path) -> None:
    """A second run changes nothing."""
    before = (root / "etc/passwd").read_text(), (root / "etc/group").read_text()
    run_tool("systemd-sysusers", f"--root={root}", SHIPPED / "emotion-edge.sysusers")
    assert ((root / "etc/passwd").read_text(), (root / "etc/group").read_text()) == before


def test_folders(root: Path) -> None:
    """State and cache belong to the user, the configuration to root."""
    command = ("systemd-tmpfiles", f"--root={root}", "--create", SHIPPED / "emotion-edge.tmpfiles")
    done = run_tool(*command)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in (root / "etc/passwd").read_text().splitlines() if USER in line]
    user = int(line.split(":")[2])
    for name, owner, mode in (
        ("etc/emotion-edge", 0, 0o755),
        ("var/lib/emotion-edge", user, 0o750),
        ("var/lib/emotion-edge/bundles", user, 0o750),
        ("var/cache/emotion-edge", user, 0o750),
        ("var/cache/emotion-edge/engines", user, 0o700),
        ("var/cache/emotion-edge/numba", user, 0o700),
    ):
        status = (root / name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (owner, mode), name
    assert all((root / name).stat().st_uid == user for name in FOLDERS)


def test_folder_created_by_root(root: Path) -> None:
    """It belongs to the user again after the next boot."""
    engines = root / "var/cache/emotion-edge/engines"
    engines.mkdir(parents=True)
    run_tool("systemd-tmpfiles", f"--root={root}", "--create", SHIPPED / "emotion-edge.tmpfiles")
    assert engines.stat().st_uid != 0
