"""Files and folders that outlive a power cut: what a call here has done is on the disk when it
returns, and what it was interrupted in is either done or not begun.

In: bytes and paths. Nothing is kept open. Everything raises OSError; what was there stays then.

Who waits for whom between processes: a lock on a file, which the system lets go of when its
process dies, however it dies.
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


NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(file: Path, data: bytes, draft: Path | None = None) -> None:
    """Give `file` the content `data`. It is written to `draft` first, beside it, which one that
    was left by a power cut is written over; who may not be alone in writing names one of its own.
    """
    draft = draft or file.with_name(file.name + ".part")
    try:
        _fill(os.open(draft, NEW_FILE | os.O_TRUNC, 0o644), [data])
        os.replace(draft, file)  # noqa: PTH105 - the tests count these calls, and pathlib hides them
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_folder(file.parent)


def write_new_file(file: Path, pieces: Iterable[bytes]) -> None:
    """A file that nobody changes any more. Its name is on the disk after `sync_folder` only."""
    _fill(os.open(file, NEW_FILE | os.O_EXCL, 0o444), pieces)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """With those above it, where they are missing."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, mode)  # noqa: PTH102 - as above
    sync_folder(folder.parent)


def move_folder(folder: Path, target: Path) -> None:
    """To another name in the same folder, in one step. What is in it was synced before."""
    os.rename(folder, target)  # noqa: PTH104 - as above
    sync_folder(target.parent)


def remove_folder(folder: Path, doomed: Path) -> None:
    """Under the name `doomed`, beside it, so that no half of it is ever taken for the whole."""
    move_folder(folder, doomed)
    shutil.rmtree(doomed)


def sync_folder(folder: Path) -> None:
    """The names in it are on the disk then."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(handle: int, pieces: Iterable[bytes]) -> None:
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


POLL_S = 0.5
REPORT_S = 5.0


@contextmanager
def hold_lock(
    file: Path,
    wait_s: float,
    timeout_error: Exception,
    on_wait: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock `file`. Raises `timeout_error` when another process does for longer than
    `wait_s`; `on_wait` is told every few seconds meanwhile.

    Where the file cannot be opened for writing there is nothing to write either, so nobody is
    locked out.
    """
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        log.debug("%s: no lock: %s", file, error)
        yield
        return
    try:
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
