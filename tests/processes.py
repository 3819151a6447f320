"""Programs that a test starts, and that never outlive it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil


@contextmanager
def start(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is killed at the end, where it has not ended by itself: after a test that
    failed it would be waited for in vain, and its warning would fail another test."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_gone(processes: Iterable[psutil.Process]) -> None:
    """Until none of them runs; one that its new parent has not asked after runs no more."""
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            while one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
