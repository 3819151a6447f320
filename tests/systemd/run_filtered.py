"""Script: run a command under a system-call filter, in which other calls fail with EPERM.

run_filtered.py NAME,NAME,... COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

ERRNO, ALLOW = 0x00050000, 0x7FFF0000
"""SCMP_ACT_ERRNO and SCMP_ACT_ALLOW of seccomp.h."""


def load_filter(allowed: list[str]) -> None:
    """Filter the calls of this process and its children from now on."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(ERRNO | errno.EPERM)))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0)
    if seccomp.seccomp_load(context):
        raise OSError("seccomp_load")


if __name__ == "__main__":
    load_filter(sys.argv[1].split(","))
    os.execv(sys.argv[2], sys.argv[2:])
