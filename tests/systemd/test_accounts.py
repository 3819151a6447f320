"""The user and the folders, made by systemd's own tools in a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.service import FOLDERS, GROUPS, USER, check_user

from .unit_root import SHIPPED, make_root, run_tool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make users and folders")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One with the service and its user."""
    made = make_root(tmp_path)
    done = run_tool("systemd-sysusers", f"--root={made}", SHIPPED / "emotion-edge.sysusers")
    assert done.returncode == 0, done.stderr
    return made


def test_user_has_its_groups(root: Path) -> None:
    """As the doctor wants them; no login."""
    assert check_user(root) == Check("user", "ok", f"{USER}, in {', '.join(GROUPS)}")
    (line,) = [line for line in (root / "etc/passwd").read_text().splitlines() if USER in line]
    assert line.endswith(":/var/lib/emotion-edge:/usr/sbin/nologin")


def test_user_is_made_once(root: Path) -> None:
    """Made again, it stays as it is."""
    before = (root / "etc/passwd").read_text(), (root / "etc/group").read_text()
    run_tool("systemd-sysusers", f"--root={root}", SHIPPED / "emotion-edge.sysusers")
    assert ((root / "etc/passwd").read_text(), (root / "etc/group").read_text()) == before


def test_folders(root: Path) -> None:
    """State and cache are the user's alone, the configuration is root's."""
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


def test_folder_that_root_has_made(root: Path) -> None:
    """Is the user's again at the next boot."""
    engines = root / "var/cache/emotion-edge/engines"
    engines.mkdir(parents=True)
    run_tool("systemd-tmpfiles", f"--root={root}", "--create", SHIPPED / "emotion-edge.tmpfiles")
    assert engines.stat().st_uid != 0
