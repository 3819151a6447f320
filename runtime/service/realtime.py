"""Scheduling: real-time and background priorities, thread switching, garbage collection.

The context managers restore the state before them. `run_in_background` and
`raise_thread_priorities` last as long as the threads.
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
"""Scheduled before every ordinary thread of the machine. New threads and processes stay ordinary;
the kernel reserves a twentieth of the time for those (sched(7), sched_rt_runtime_us)."""
DEVICE_PRIORITY, PIPELINE_PRIORITY, HELPER_PRIORITY = 4, 2, 1
"""Real-time priorities; the first is for threads that simulate hardware. Helpers need one too: an
ordinary thread that is preempted while it holds the interpreter lock would delay the results,
whatever their priority."""


def run_in_background() -> None:
    """Lower the priority of the calling thread; on Linux a nice value belongs to a thread."""
    thread = threading.get_native_id()
    if os.getpriority(os.PRIO_PROCESS, thread) < BACKGROUND_NICE:
        os.setpriority(os.PRIO_PROCESS, thread, BACKGROUND_NICE)


@contextmanager
def realtime_priority(enabled: bool, priority: int = PIPELINE_PRIORITY) -> Iterator[bool]:
    """Give the calling thread real-time priority, if `enabled` and permitted (CAP_SYS_NICE or an
    RLIMIT_RTPRIO). Yield whether it has it. Afterwards restore its policy."""
    realtime = False
    if enabled:
        with suppress(OSError):  # some sandboxes have only ordinary threads
            policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, REALTIME_POLICY, os.sched_param(priority))
            realtime = True
    try:
        yield realtime
    finally:
        if realtime:
            try:
                os.sched_setscheduler(0, policy, parameter)
            except PermissionError:  # only CAP_SYS_NICE may clear the flag, see sched(7)
                os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, parameter)


@contextmanager
def switching_every(interval_s: float) -> Iterator[None]:
    """Limit the time for which one Python thread keeps the interpreter lock from another."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s + 5e-7)  # Python truncates to whole microseconds


def list_threads() -> set[int]:
    """Return the thread identifiers of this process, libraries' threads included."""
    return {int(name) for name in os.listdir("/proc/self/task")}  # noqa: PTH208  names, not paths


def raise_thread_priorities(threads: set[int]) -> None:
    """Give the threads real-time priority, if permitted. A real-time thread waits for a network's
    own threads, and would keep them from running if they stayed ordinary."""
    for thread in threads:
        with suppress(OSError):
            os.sched_setscheduler(thread, REALTIME_POLICY, os.sched_param(PIPELINE_PRIORITY))


def realtime_permitted(priority: int = PIPELINE_PRIORITY) -> bool:
    """Return whether `realtime_priority` is permitted here."""
    with realtime_priority(True, priority) as realtime:
        return realtime


@contextmanager
def gc_frozen(enabled: bool) -> Iterator[None]:
    """Exclude all present objects from garbage collection. A full collection of them takes longer
    than the latency budget of a frame."""
    if not enabled:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
