"""Atomic writes and durable folders. Power cuts: bundles/test_power_cuts.py."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from emotion_edge.engines.storage import (
    atomic_write,
    hold_lock,
    make_folder,
    move_folder,
    remove_folder,
    write_new_file,
)


def test_replaces(tmp_path: Path) -> None:
    """A new file, and again; a draft that a power cut has left is written over."""
    file = tmp_path / "file"
    atomic_write(file, b"one")
    (tmp_path / "file.part").write_bytes(b"left, and longer")
    atomic_write(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take less than it was given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    atomic_write(tmp_path / "file", b"0123456789")
    write_new_file(tmp_path / "new", [b"01234", b"", b"56789"])
    for name in ("file", "new"):
        assert (tmp_path / name).read_bytes() == b"0123456789"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_write_error_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The old content stays, and no draft."""
    file = tmp_path / "file"
    atomic_write(file, b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError) as error:
            atomic_write(file, b"new")
    assert error.value.errno == errno.ENOSPC
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_new_file_is_new(tmp_path: Path) -> None:
    """Neither an existing file nor where a link points to is written."""
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            write_new_file(tmp_path / name, [b"x"])
    assert not (tmp_path / "elsewhere").exists()


def test_draft_does_not_follow_a_link(tmp_path: Path) -> None:
    """Whoever may write in the folder cannot have another file written."""
    (tmp_path / "victim").write_bytes(b"old")
    for link in (os.symlink, os.link):
        link(tmp_path / "victim", tmp_path / "file.part")
        atomic_write(tmp_path / "file", b"new")
        assert (tmp_path / "victim").read_bytes() == b"old"
        assert not (tmp_path / "file").is_symlink()


def test_error_in_the_content_leaves_the_old_file(tmp_path: Path) -> None:
    """Pieces are written as they come; one that fails leaves no draft."""
    file = tmp_path / "file"
    atomic_write(file, [b"o", b"ld"])

    def fail() -> Iterator[bytes]:
        yield b"new"
        raise KeyError

    with pytest.raises(KeyError):
        atomic_write(file, fail())
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_only_durable_writes_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the name each cost a wait; processes that write at once use their own draft."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    atomic_write(tmp_path / "file", b"x", durable=False, draft=tmp_path / "4711.part")
    assert synced == []
    atomic_write(tmp_path / "file", b"x")
    assert len(synced) == 2


def test_folders(tmp_path: Path) -> None:
    """Made with those above, moved, and removed whole."""
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    write_new_file(tmp_path / "a" / "b" / "c" / "file", [b"x"])
    move_folder(tmp_path / "a" / "b", tmp_path / "a" / "d")
    assert (tmp_path / "a" / "d" / "c" / "file").read_bytes() == b"x"
    remove_folder(tmp_path / "a" / "d", tmp_path / "a" / ".gone")
    assert list((tmp_path / "a").iterdir()) == []


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is locked out there; any other error of the disk is raised."""
    codes = [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO]

    def refuse(handle: int, operation: int) -> None:
        raise OSError(codes[0], os.strerror(codes.pop(0)))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for error in (None, None, OSError):
        expected = pytest.raises(error) if error else nullcontext()
        with expected, hold_lock(tmp_path / "lock", 0.0, TimeoutError(), lambda: None):
            pass
    assert codes == []


def test_lock_of_the_user_alone(tmp_path: Path) -> None:
    """Others cannot open it, so they cannot hold it; one that an earlier version made is mended."""
    old = tmp_path / "old"
    old.touch(0o644)
    for file in (tmp_path / "new", old):
        with hold_lock(file, 0.0, TimeoutError(), lambda: None):
            assert file.stat().st_mode & 0o777 == 0o600
