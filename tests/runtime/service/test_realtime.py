"""Which threads go first."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import pytest

from emotion_edge.runtime.service.realtime import (
    BACKGROUND_NICE,
    PIPELINE_PRIORITY,
    REALTIME_POLICY,
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
    """Inside it goes first where that is permitted; afterwards it is as it was."""
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


def test_not_wanted() -> None:
    """Then nothing is touched."""
    before = get_policy()
    with realtime_priority(False) as realtime:
        assert not realtime
        assert get_policy() == before


def test_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's run goes on as it is."""
    before = get_policy()

    def refuse(pid: int, policy: int, parameter: os.sched_param) -> None:
        if policy == REALTIME_POLICY:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime_priority(True) as realtime:
        assert not realtime
        assert get_policy() == before


def test_reset_on_fork_cannot_be_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a limit instead of the capability may not take it back; all else goes back."""
    asked: list[int] = []

    def set_policy(pid: int, policy: int, parameter: os.sched_param) -> None:
        asked.append(policy)
        if not policy & os.SCHED_RESET_ON_FORK:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", set_policy)
    with realtime_priority(True) as realtime:
        assert realtime
    assert asked == [REALTIME_POLICY, os.SCHED_OTHER, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK]


def test_a_sandbox_without_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any refusal is one."""

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime_priority(True) as realtime:
        assert not realtime
    raise_thread_priorities(list_threads())


def test_the_threads_of_a_library() -> None:
    """Those that came meanwhile go first with the results; one that has ended is no error."""
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


def test_background() -> None:
    """The calling thread alone; one that is further back already stays where it is."""
    found: list[int] = []

    def step_back(realtime: int) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), realtime)
        run_in_background()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    for nice in (os.getpriority(os.PRIO_PROCESS, 0), 15):
        thread = threading.Thread(target=step_back, args=(nice,))
        thread.start()
        thread.join()
    assert found[0] >= BACKGROUND_NICE
    assert found[1] == 15


@pytest.mark.parametrize("before_s", [0.005, 0.007, 0.0123])
@pytest.mark.parametrize("fails", [False, True])
def test_switch_interval_and_back(before_s: float, fails: bool) -> None:
    """It holds inside, and afterwards it is as it was, to the microsecond and an error or not."""
    found_s = sys.getswitchinterval()
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
        sys.setswitchinterval(found_s)
