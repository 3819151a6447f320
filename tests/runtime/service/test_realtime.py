"""Real-time and background priorities, thread switching, garbage collection."""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from contextlib import suppress

import pytest

from emotion_edge.runtime.service.realtime import (
    BACKGROUND_NICE,
    PIPELINE_PRIORITY,
    REALTIME_POLICY,
    gc_frozen,
    list_threads,
    raise_thread_priorities,
    realtime_permitted,
    realtime_priority,
    run_in_background,
    switching_every,
)


def get_policy() -> tuple[int, int]:
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


def test_realtime_policy_is_restored() -> None:
    """It is real-time inside, if permitted, and not for new threads."""
    before = get_policy()
    with realtime_priority(True) as realtime:
        inside = get_policy()
        started: list[tuple[int, int]] = []
        thread = threading.Thread(target=lambda: started.append(get_policy()))
        thread.start()
        thread.join()
    assert get_policy() == before
    if not realtime:
        pytest.skip("this user may not raise a thread's priority")
    assert inside == (REALTIME_POLICY, PIPELINE_PRIORITY)
    assert started == [(os.SCHED_OTHER, 0)]


def test_realtime_disabled() -> None:
    before = get_policy()
    with realtime_priority(False) as realtime:
        assert not realtime
        assert get_policy() == before


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL])
def test_realtime_not_permitted(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """For an ordinary user, and in a sandbox without priorities: nothing changes."""
    before = get_policy()

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime_priority(True) as realtime:
        assert not realtime
        assert get_policy() == before
    raise_thread_priorities(list_threads())


def test_reset_on_fork_cannot_be_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a limit, but not the capability, may restore everything else."""
    policies: list[int] = []

    def set_policy(pid: int, policy: int, parameter: os.sched_param) -> None:
        policies.append(policy)
        if not policy & os.SCHED_RESET_ON_FORK:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_setscheduler", set_policy)
    with realtime_priority(True) as realtime:
        assert realtime
    assert policies == [REALTIME_POLICY, os.SCHED_OTHER, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK]


def test_threads_of_a_library() -> None:
    """They get real-time priority, if permitted. A thread that has ended is no error."""
    before = list_threads()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert thread.native_id is not None
    assert thread.native_id in list_threads() - before
    raise_thread_priorities({thread.native_id, 1 << 22})
    policy = os.sched_getscheduler(thread.native_id)
    stop.set()
    thread.join()
    assert policy == (REALTIME_POLICY if realtime_permitted() else os.SCHED_OTHER)


def test_background_priority() -> None:
    """Of the calling thread alone; a lower priority stays."""
    seen: list[int] = []

    def run_at(nice: int) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        run_in_background()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    for nice in (os.getpriority(os.PRIO_PROCESS, 0), 15):
        thread = threading.Thread(target=run_at, args=(nice,))
        thread.start()
        thread.join()
    assert seen[0] >= BACKGROUND_NICE
    assert seen[1] == 15


@pytest.mark.parametrize("before_s", [0.005, 0.007, 0.0123])
@pytest.mark.parametrize("fails", [False, True])
def test_switch_interval_is_restored(before_s: float, fails: bool) -> None:
    """To the microsecond, with or without an error."""
    original_s = sys.getswitchinterval()
    try:
        sys.setswitchinterval(before_s)
        before_s = sys.getswitchinterval()
        for _ in range(20):
            with suppress(KeyError), switching_every(1e-3):
                assert sys.getswitchinterval() == pytest.approx(1e-3)
                if fails:
                    raise KeyError
        assert sys.getswitchinterval() == before_s
    finally:
        sys.setswitchinterval(original_s)


def test_frozen_objects_are_not_collected() -> None:
    """All objects that exist at the start, and only until the end."""
    objects = [[number] for number in range(1000)]
    identities = {id(item) for item in objects}

    def count_tracked() -> int:
        return sum(id(item) in identities for item in gc.get_objects())

    with gc_frozen(True):
        assert gc.get_freeze_count() > 1000
        assert count_tracked() == 0
    assert gc.get_freeze_count() == 0
    assert count_tracked() == len(objects)
    with gc_frozen(False):
        assert gc.get_freeze_count() == 0
