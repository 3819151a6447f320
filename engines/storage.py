"""Atomic writes, durable folders and file locks: what an interrupted process leaves is never half
of anything.

In: paths and bytes. Out: files and folders that are complete or unchanged. A durable call has
reached the disk when it returns, so that a power cut cannot undo it. Every function raises
OSError, which the caller turns into its own error. Nothing stays open.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 0.5
REPORT_S = 5.0
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def atomic_write(
    file: Path,
    content: bytes | Iterable[bytes],
    *,
    durable: bool = True,
    draft: Path | None = None,
) -> None:
    """Replace `file` by `content` in one step; on OSError the old file stays.

    The content is first written to `draft`, a name in the same folder. Processes that may write
    the same file at the same time each name their own. Without `durable` nothing waits for the
    disk: a power cut soon after may leave an empty file.
    """
    draft = draft or file.with_name(f"{file.name}.part")
    try:
        draft.unlink(missing_ok=True)  # of an interrupted write, or a link to another file
        pieces = (content,) if isinstance(content, bytes) else content
        _write_pieces(os.open(draft, _NEW_FILE, 0o644), pieces, durable)
        os.replace(draft, file)  # noqa: PTH105 - power_cuts.py watches the calls of `os`
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(file.parent)


def write_new_file(file: Path, pieces: Iterable[bytes]) -> None:
    """Write a read-only file that must not exist yet. Its name is durable after `sync_folder`."""
    _write_pieces(os.open(file, _NEW_FILE, 0o444), pieces, durable=True)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make `folder`, durably, and its missing parents."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, mode)  # noqa: PTH102 - as above
    sync_folder(folder.parent)


def move_folder(folder: Path, target: Path) -> None:
    """Rename `folder` within its parent in one durable step. Its content must be synced."""
    os.rename(folder, target)  # noqa: PTH104 - as above
    sync_folder(target.parent)


def remove_folder(folder: Path, doomed: Path) -> None:
    """Delete `folder` after renaming it to `doomed`, so that half of it never has its name."""
    move_folder(folder, doomed)
    shutil.rmtree(doomed)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_pieces(handle: int, pieces: Iterable[bytes], durable: bool) -> None:
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(handle, rest) :]
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def hold_lock(
    file: Path,
    wait_s: float,
    timeout_error: Exception,
    on_wait: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold a lock between processes on `file`; the kernel releases it when its process dies. Other
    users cannot hold it: who can read a file can lock it.

    Raises `timeout_error` when another process holds it for longer than `wait_s`, and calls
    `on_wait` every few seconds meanwhile. A file that cannot be opened for writing locks nobody
    out: nothing can be written beside it either.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.debug("%s: no lock: %s", file, error)
        yield
        return
    try:
        with suppress(OSError):  # root's, or made by an earlier version
            os.fchmod(handle, 0o600)
        waited_s = 0.0
        while not _try_lock(handle):
            if waited_s >= wait_s:
                raise timeout_error
            if waited_s % REPORT_S == 0:
                on_wait()
            sleep(POLL_S)
            waited_s += POLL_S
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
            raise
    return True
