"""What a process that serves gives up: priority, signals, and the file system.

Landlock (Linux 5.13, landlock(7)) then refuses to open any file or device, from 6.7 also to connect
or to listen. Where the kernel or a sandbox does not permit it, the process only has no descriptor
of a camera or a model.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys

NICE = 10
MAX_DESCRIPTORS = 512
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
"""linux/prctl.h."""
CREATE_RULESET, RESTRICT_SELF = 444, 446
"""System calls of Landlock, on every architecture."""
ALL_FILE_ACCESS = (1 << 13) - 1
"""LANDLOCK_ACCESS_FS_EXECUTE to _MAKE_SYM: those of the first version."""
BIND_AND_CONNECT_TCP = 3
FIRST_VERSION_WITH_NETWORK = 4
VERSION_FLAG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def end_with(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends. `parent` is the
    process of that thread."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call
        sys.exit()


def step_back() -> None:
    """Run after all others, and ignore what ends the program: the end of the socket pair does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def forbid_files() -> bool:
    """Open no file from now on. Return whether the kernel enforces it."""
    version = _call(CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return False
    rules = struct.pack("Q", ALL_FILE_ACCESS)
    if version >= FIRST_VERSION_WITH_NETWORK:
        rules += struct.pack("Q", BIND_AND_CONNECT_TCP)
    handle = _call(CREATE_RULESET, rules, len(rules), 0)
    if handle < 0:
        return False
    try:
        if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            return False
        return _call(RESTRICT_SELF, handle, 0) == 0
    finally:
        os.close(handle)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call; a number takes a whole register."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *wide))
