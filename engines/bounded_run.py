"""Work on an untrusted network, with an end: opening it, and its first runs.

In: a call, and how to cancel it. Out: its result, or an EngineError after `LIMIT_S`. A network may
hold a loop of years or ask for all memory; the bundle's hashes and signature do not tell.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from .base import EngineError

ResultT = TypeVar("ResultT")

LIMIT_S = 30.0
"""The networks that ship take milliseconds."""
CANCEL_WAIT_S = 5.0
"""Time for a cancelled call to return. One that does not is left to its thread."""
MEMORY_BYTES = 2 << 30
"""What the work may add to the memory of the process."""
POLL_S = 0.1
_lock = threading.Lock()
_is_stopped: ContextVar[Callable[[], bool]] = ContextVar("is_stopped", default=lambda: False)


def run_bounded(title: str, work: Callable[[], ResultT], cancel: Callable[[], None]) -> ResultT:
    """Do `work` on a thread and wait for it, so that signals are handled meanwhile.

    After `LIMIT_S`, and where the handler of a signal raises, it is cancelled. Raises EngineError,
    and what `work` raises. `title` names the network.
    """
    results: list[ResultT] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            done.set()

    with _lock, _bounded_memory():
        try:
            threading.Thread(target=run, name="first-run", daemon=True).start()
            _wait(title, done)
        except BaseException:
            cancel()
            done.wait(CANCEL_WAIT_S)
            raise
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def stopping_when(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Let the work that this thread begins inside end early, with an EngineError, once `is_stopped`
    returns True."""
    token = _is_stopped.set(is_stopped)
    try:
        yield
    finally:
        _is_stopped.reset(token)


def _wait(title: str, done: threading.Event) -> None:
    is_stopped = _is_stopped.get()
    end_s = time.monotonic() + LIMIT_S
    while not done.wait(min(POLL_S, LIMIT_S)):
        if is_stopped():
            raise EngineError(f"{title}: stopped during its first run")
        if time.monotonic() >= end_s:
            raise EngineError(f"{title}: has not finished in {LIMIT_S:g} s")


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let allocations fail that would take `MEMORY_BYTES` more than the process has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [MEMORY_BYTES + _count_data_bytes(), soft, hard]
    least = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    with suppress(OSError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    try:
        yield
    finally:
        with suppress(OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _count_data_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    return pages * resource.getpagesize()
