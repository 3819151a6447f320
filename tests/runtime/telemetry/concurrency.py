"""A reader thread beside a writer, switching as often as Python can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable


def read_while_writing(read: Callable[[], None], write: Callable[[], None]) -> None:
    """Call `read` again and again on another thread while `write` runs."""
    begun, done = threading.Event(), threading.Event()

    def run() -> None:
        while not done.is_set():
            read()
            begun.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        reader = threading.Thread(target=run)
        reader.start()
        begun.wait()
        write()
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(before)
