"""CPU load generator: processes that compete for the processor with the pipeline's thread.

Ordinary processes spin on any core at the nice value of that thread. The thread must then be
ordinary as well: real-time scheduling would preempt them. A real-time process on each core preempts
even a real-time pipeline, and leaves it a share of each core.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ..messages import SourceError
from ..service import PIPELINE_PRIORITY
from ..session import Runtime
from . import load_process

PER_CORE = 8
"""Default number of ordinary processes. They leave a ninth of a core."""
SHARE = 0.87
"""Share of each core that a real-time process uses. It leaves about an eighth of the core."""


def list_cores() -> list[int]:
    """Return the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


class CpuLoad:
    """Processes that are stopped until `begin`. They end with this object and with this process.

    `CpuLoad(6)` is six ordinary processes, `CpuLoad.above_pipeline(0.85)` one real-time process on
    each core.
    """

    def __init__(self, count: int, share: float = 1.0, cores: Sequence[int] = ()) -> None:
        """Start the processes. With `cores`, each is bound to one of them and has a real-time
        priority above the pipeline's. Raises SourceError where they cannot be started."""
        self._share, self._cores = share, tuple(cores)
        self._thread = threading.get_native_id()
        self._nice = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        arguments = [str(Path(load_process.__file__)), str(os.getpid()), str(share)]
        command = [sys.executable, "-I", "-S", *arguments]
        try:
            for _ in range(count):
                self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            for process in self._processes:
                _wait_until_stopped(process.pid)
            for pid, core in zip(self.pids, self._cores, strict=False):
                os.sched_setaffinity(pid, {core})
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(PIPELINE_PRIORITY + 1))
        except OSError as error:
            self.close()
            raise SourceError(f"--hogs {count}: {error.strerror or error}") from error

    @classmethod
    def above_pipeline(cls, share: float = SHARE) -> CpuLoad:
        """Raises SourceError where real-time priorities are not permitted."""
        cores = list_cores()
        return cls(len(cores), share, cores)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def attach(self, runtime: Runtime) -> None:
        del runtime
        self._thread = threading.get_native_id()

    def begin(self) -> None:
        """Let the processes spin."""
        self._nice = os.getpriority(os.PRIO_PROCESS, self._thread)
        for pid in self.pids:
            if not self._cores:
                os.setpriority(os.PRIO_PROCESS, pid, self._nice)
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def describe(self) -> dict[str, object]:
        """Return the entry of the JSON file."""
        count = len(self._processes)
        if self._cores:
            return {"hogs": count, "kind": "before the results", "share_of_core": self._share}
        return {"hogs": count, "kind": "as the results", "nice": self._nice}

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def __enter__(self) -> CpuLoad:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait_until_stopped(pid: int) -> None:
    """Wait until a process has stopped itself. Raises OSError when it ended instead."""
    state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if state is None or state.si_code != os.CLD_STOPPED:
        raise OSError(f"process {pid} did not start")
