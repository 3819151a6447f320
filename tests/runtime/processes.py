"""Programs that a test starts, and that never outlive it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def start(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is killed at the end, where it has not ended by itself: after a test that
    failed it would be waited for in vain, and its warning would fail another test."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
