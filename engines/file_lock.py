"""Who waits for whom between processes: a lock on a file, which the system lets go of when its
process dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

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
