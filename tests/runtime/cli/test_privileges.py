"""The commands that write to the cache drop root's privileges first."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.cli import build, profile


class PrivilegesDropped(Exception):
    """Raised in place of dropping privileges, to end the command there."""


@pytest.mark.parametrize("command", [build, profile])
def test_drops_privileges_to_the_owner_of_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: ModuleType
) -> None:
    """Before a bundle is read or anything is written, but for a file that root may write."""
    folders: list[Path] = []

    def drop_privileges_to(folder: Path) -> None:
        folders.append(folder)
        raise PrivilegesDropped

    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "service" / "engines"))
    monkeypatch.setattr(command, "drop_privileges_to", drop_privileges_to)
    name = command.__name__.rpartition(".")[2]
    options = ["--json", str(tmp_path / "x.json")] if command is profile else []
    with pytest.raises(PrivilegesDropped):
        main([name, "--bundle", "/none", *options])
    assert folders == [tmp_path / "service"]
    assert (tmp_path / "x.json").exists() is (command is profile)
