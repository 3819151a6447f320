"""The service's configuration, and the user of an operator's commands, without being root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.runtime.service import deployment
from emotion_edge.runtime.service.deployment import drop_privileges_to, find_service_config


def test_service_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None where no service is installed."""
    file = tmp_path / "config.yaml"
    monkeypatch.setattr(deployment, "SERVICE_CONFIG", file)
    assert find_service_config() is None
    file.touch()
    assert find_service_config() == file


class Root:
    """The system calls of root, in their order, in a file system that `owner` owns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: int) -> None:
        self.calls: list[tuple[str, object]] = []
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for name in ("initgroups", "setgroups", "setgid", "setuid"):
            monkeypatch.setattr(os, name, lambda *a, n=name: self.calls.append((n, a)))
        real = Path.stat

        def stat(path: Path, **options: Any) -> os.stat_result:
            status = real(path, **options)
            return os.stat_result((*status[:4], owner, 77, *status[6:10]))

        monkeypatch.setattr(Path, "stat", stat)


def test_drops_to_the_folder_owner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Groups first, since only root may set them. HOME is that of the user."""
    entry = pwd.struct_passwd(("kiosk", "x", 4711, 4712, "", "/var/lib/kiosk", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {4711: entry}[uid])
    monkeypatch.setenv("HOME", "/root")
    root = Root(monkeypatch, 4711)
    drop_privileges_to(tmp_path)
    wanted = [("initgroups", ("kiosk", 4712)), ("setgid", (4712,)), ("setuid", (4711,))]
    assert root.calls == wanted
    assert os.environ["HOME"] == "/var/lib/kiosk"
    other = Root(monkeypatch, 99)  # without a name
    drop_privileges_to(tmp_path)
    assert other.calls == [("setgroups", ([],)), ("setgid", (77,)), ("setuid", (99,))]


@pytest.mark.parametrize(("owner", "euid", "folder"), [(0, 0, "."), (5, 0, "missing"), (5, 5, ".")])
def test_keeps_its_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: int, euid: int, folder: str
) -> None:
    """If root owns the folder, if it is missing, and if the user is not root."""
    with monkeypatch.context() as patch:
        root = Root(patch, owner)
        patch.setattr(os, "geteuid", lambda: euid)
        drop_privileges_to(tmp_path / folder)
    assert root.calls == []
