"""Core dumps, which would hold frames and voices.

In: the environment. Out: a process that the system writes no memory of. `LimitCORE=0` of the unit
does not reach a program that runs by hand, and a handler such as systemd-coredump ignores it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger(__name__)

VARIABLE = "EMOTION_EDGE_CORE_DUMPS"
"""Set to 1, it leaves core dumps and debuggers as the system has them."""
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


@contextmanager
def no_core_dumps(environment: Mapping[str, str]) -> Iterator[None]:
    """Let nobody but root dump this process or attach to it, unless `VARIABLE` is 1."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    before = prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    if environment.get(VARIABLE) == "1" or before != 1:
        yield
        return
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("core dumps may hold frames: %s", ctypes.get_errno())
    try:
        yield
    finally:
        prctl(_PR_SET_DUMPABLE, before, 0, 0, 0)
