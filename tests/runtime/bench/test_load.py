"""Processes that spin: only when they are let, and never longer than their parent lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from emotion_edge.runtime.bench import load_process
from emotion_edge.runtime.bench.load import CpuLoad, list_cores
from emotion_edge.runtime.messages import SourceError
from emotion_edge.runtime.service.realtime import PIPELINE_PRIORITY, realtime_permitted

from ... import processes

TIMEOUT_S = 500
PARENT = """
import sys
from emotion_edge.runtime.bench.load import CpuLoad
with CpuLoad(2) as hogs:
    if sys.argv[1] == "spinning":
        hogs.attach(None)
        hogs.begin()
    print(*hogs.pids, flush=True)
    sys.stdin.read()
"""


def state_after(pid: int, flag: int) -> int:
    """What the kernel reports of the next change of the process's state."""
    result = os.waitid(os.P_PID, pid, flag | os.WEXITED | os.WNOWAIT)
    assert result is not None
    return int(result.si_code)


def test_spin_and_stop() -> None:
    """Stopped at first, running after `begin`, stopped again, gone at the end."""
    runtime: Any = None
    with CpuLoad(2) as herd:
        pids = herd.pids
        assert len(set(pids)) == 2
        herd.attach(runtime)
        assert [psutil.Process(pid).status() for pid in pids] == [psutil.STATUS_STOPPED] * 2
        herd.begin()
        assert [state_after(pid, os.WCONTINUED) for pid in pids] == [os.CLD_CONTINUED] * 2
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids] == [nice] * 2
        assert herd.describe() == {"hogs": 2, "kind": "as the results", "nice": nice}
        herd.end()
        assert [state_after(pid, os.WSTOPPED) for pid in pids] == [os.CLD_STOPPED] * 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    herd.close()


def test_a_real_time_neighbour() -> None:
    """One on each core and bound to it, before the thread that makes results."""
    if not realtime_permitted():
        pytest.skip("this user may not raise a process's priority")
    cores = list_cores()
    with CpuLoad.above_pipeline(0.5) as herd:
        assert [os.sched_getaffinity(pid) for pid in herd.pids] == [{core} for core in cores]
        assert {os.sched_getscheduler(pid) for pid in herd.pids} == {os.SCHED_RR}
        assert {os.sched_getparam(pid).sched_priority for pid in herd.pids} == {
            PIPELINE_PRIORITY + 1
        }
        kind = {"hogs": len(cores), "kind": "before the results", "share_of_core": 0.5}
        assert herd.describe() == kind
        herd.begin()
        assert state_after(herd.pids[0], os.WCONTINUED) == os.CLD_CONTINUED
        herd.end()


@pytest.mark.parametrize("state", ["stopped", "spinning"])
def test_die_with_their_parent(state: str) -> None:
    """Even when it is killed and can do nothing about it."""
    with processes.start(
        [sys.executable, "-c", PARENT, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        herd = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(herd) == 2
        assert all(one.is_running() for one in herd)
        parent.send_signal(signal.SIGKILL)
        parent.wait(TIMEOUT_S)
    processes.wait_gone(herd)


def test_load_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the option, and none is left of those that did."""
    monkeypatch.setattr(load_process, "__file__", "/nowhere/hog.py")
    with pytest.raises(SourceError, match=r"--hogs 1: process \d+ did not start"):
        CpuLoad(1)
