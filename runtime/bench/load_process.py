"""One process of the CPU load generator: it keeps a core busy and ends with its parent.

In: the parent's process id, and the busy share of each 10 ms. `load` runs this file by itself, with
Python's own library alone, so that a process starts at once. It stops itself when it is ready:
SIGCONT lets it spin, SIGSTOP stops it again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

PERIOD_S = 0.01
PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the kernel sends the signal when the parent ends, also to a stopped process."""


def main(parent_pid: int, share: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:  # it ended before the call
        return
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < share * PERIOD_S:
            pass
        if share < 1:
            time.sleep(max(0.0, begun_s + PERIOD_S - time.monotonic()))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
