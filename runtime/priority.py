"""Which threads may be late: they step back for the one that makes results."""

from __future__ import annotations

import os
import threading

BACKGROUND_NICE = 10


def run_in_background() -> None:
    """Lower the calling thread's priority; on Linux a nice value belongs to a thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)
