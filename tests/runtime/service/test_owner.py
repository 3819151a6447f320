"""Who root becomes, without being root."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.runtime.service.deployment import drop_privileges_to


class Root:
    """What root would do, in the order in which it must be done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: int) -> None:
        self.calls: list[tuple[str, object]] = []
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for name in ("initgroups", "setgroups", "setgid", "setuid"):
            monkeypatch.setattr(os, name, lambda *a, n=name: self.calls.append((n, a)))
        real = Path.stat

        def owned(path: Path, **options: Any) -> os.stat_result:
            status = real(path, **options)
            return os.stat_result((*status[:4], owner, 77, *status[6:10]))

        monkeypatch.setattr(Path, "stat", owned)


def test_drops_to_the_folder_owner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Groups first: afterwards it may not any more. The user's folders are then its own."""
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


def test_stays_who_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where root owns the folder, where there is none yet, and who is not root."""
    for owner, euid, folder in ((0, 0, tmp_path), (5, 0, tmp_path / "none"), (5, 5, tmp_path)):
        with monkeypatch.context() as patch:
            root = Root(patch, owner)
            patch.setattr(os, "geteuid", lambda euid=euid: euid)
            drop_privileges_to(folder)
            assert root.calls == []
