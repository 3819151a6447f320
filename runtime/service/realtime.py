"""Which threads go first, and which may be late.

What was made at the start does not get in the way: it is not searched for garbage.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BACKGROUND_NICE = 10
REALTIME_POLICY = os.SCHED_RR | os.SCHED_RESET_ON_FORK
"""Before every ordinary thread of the machine; threads and processes that are started stay
ordinary. The kernel keeps a twentieth of the time for those (sched(7), sched_rt_runtime_us)."""
DEVICE_PRIORITY, PIPELINE_PRIORITY, HELPER_PRIORITY = 4, 2, 1
"""Real-time priorities, the first of them for what stands in for hardware. Those who only help need
one as well: an ordinary thread that is put aside while it holds the interpreter would keep the
results waiting, whatever their priority."""


def run_in_background() -> None:
    """Lower the calling thread's priority; on Linux a nice value belongs to a thread."""
    thread = threading.get_native_id()
    if os.getpriority(os.PRIO_PROCESS, thread) < BACKGROUND_NICE:
        os.setpriority(os.PRIO_PROCESS, thread, BACKGROUND_NICE)


@contextmanager
def realtime_priority(enabled: bool, priority: int = PIPELINE_PRIORITY) -> Iterator[bool]:
    """Let the calling thread go first -> whether it does: where that is `enabled` and permitted
    (CAP_SYS_NICE or an RLIMIT_RTPRIO). Afterwards it is as it was."""
    realtime = False
    if enabled:
        with suppress(OSError):  # some sandboxes know ordinary threads only
            policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, REALTIME_POLICY, os.sched_param(priority))
            realtime = True
    try:
        yield realtime
    finally:
        if realtime:
            try:
                os.sched_setscheduler(0, policy, parameter)
            except PermissionError:  # the flag may be taken back by CAP_SYS_NICE only, see sched(7)
                os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, parameter)


@contextmanager
def switching_every(interval_s: float) -> Iterator[None]:
    """No thread of this process keeps the interpreter from another for longer."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s + 5e-7)  # Python cuts it down to whole microseconds


def list_threads() -> set[int]:
    """Numbers of this process's threads, those of libraries among them."""
    return {int(name) for name in os.listdir("/proc/self/task")}  # noqa: PTH208  no paths wanted


def raise_thread_priorities(threads: set[int]) -> None:
    """Let them go first with the results, where that is permitted: a network's own threads are
    waited for by a thread that keeps ordinary ones from running."""
    for thread in threads:
        with suppress(OSError):
            os.sched_setscheduler(thread, REALTIME_POLICY, os.sched_param(PIPELINE_PRIORITY))


def realtime_permitted(priority: int = PIPELINE_PRIORITY) -> bool:
    """Whether `realtime_priority` is permitted here."""
    with realtime_priority(True, priority) as realtime:
        return realtime


@contextmanager
def gc_frozen(enabled: bool) -> Iterator[None]:
    """Python's collector leaves alone all that exists by now. A full search of it takes longer than
    a picture may."""
    if not enabled:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
