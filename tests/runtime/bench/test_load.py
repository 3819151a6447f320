"""The CPU load generator: it spins between begin and end, and ends with its parent."""

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
with CpuLoad(2) as load:
    if sys.argv[1] == "spinning":
        load.attach(None)
        load.begin()
    print(*load.pids, flush=True)
    sys.stdin.read()
"""


def state_after(pid: int, flag: int) -> int:
    """Return the kernel's report of the process's next state change."""
    result = os.waitid(os.P_PID, pid, flag | os.WEXITED | os.WNOWAIT)
    assert result is not None
    return int(result.si_code)


def test_spin_and_stop() -> None:
    """Processes are stopped at first, run after `begin`, stop after `end`, and end with `close`."""
    runtime: Any = None
    with CpuLoad(2) as load:
        pids = load.pids
        assert len(set(pids)) == 2
        load.attach(runtime)
        assert [psutil.Process(pid).status() for pid in pids] == [psutil.STATUS_STOPPED] * 2
        load.begin()
        assert [state_after(pid, os.WCONTINUED) for pid in pids] == [os.CLD_CONTINUED] * 2
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids] == [nice] * 2
        assert load.describe() == {"hogs": 2, "kind": "as the results", "nice": nice}
        load.end()
        assert [state_after(pid, os.WSTOPPED) for pid in pids] == [os.CLD_STOPPED] * 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    load.close()


def test_real_time_processes() -> None:
    """One is bound to each core, with a priority above the pipeline's."""
    if not realtime_permitted():
        pytest.skip("this user may not raise a process's priority")
    cores = list_cores()
    with CpuLoad.above_pipeline(0.5) as load:
        assert [os.sched_getaffinity(pid) for pid in load.pids] == [{core} for core in cores]
        assert {os.sched_getscheduler(pid) for pid in load.pids} == {os.SCHED_RR}
        assert {os.sched_getparam(pid).sched_priority for pid in load.pids} == {
            PIPELINE_PRIORITY + 1
        }
        kind = {"hogs": len(cores), "kind": "before the results", "share_of_core": 0.5}
        assert load.describe() == kind
        load.begin()
        assert state_after(load.pids[0], os.WCONTINUED) == os.CLD_CONTINUED
        load.end()


@pytest.mark.parametrize("state", ["stopped", "spinning"])
def test_processes_end_with_their_parent(state: str) -> None:
    """A killed parent cannot end them itself."""
    with processes.start(
        [sys.executable, "-c", PARENT, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        assert all(child.is_running() for child in children)
        parent.send_signal(signal.SIGKILL)
        parent.wait(TIMEOUT_S)
    processes.wait_gone(children)


def test_load_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_process, "__file__", "/nowhere/load.py")
    with pytest.raises(SourceError, match="--hogs 1"):
        CpuLoad(1)
