"""Whether the run shows that a bundle is good which is on trial after an update.

In: how far the run has come, and how it ends. Out: the trial is over, or this start does not count.

Whether an update and its trial could be kept: the disk under systemd's state folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..engines.bundles import BundleChoice
from .config import ConfigError
from .faults import FaultLog
from .messages import SourceError
from .service import IndicatorError
from .session import Runtime

log = logging.getLogger(__name__)


SETTLED_NS = 25_000_000_000
"""A run that gives results for so long has begun well. It is more than twice what the watchdog
allows (WatchdogSec in emotion-edge.service): a network that hangs ends the run before."""
UNRELATED_ERRORS = (SourceError, IndicatorError, ConfigError)
"""Once its networks have been proven: a device, the light, a port that is taken."""


class Trial:
    """Told twice a second how a run goes on. Only one that moves settles."""

    def __init__(self, choice: BundleChoice, begin_ns: int) -> None:
        self._choice = choice
        self._since_ns = begin_ns
        self._has_results = False
        self._settled = False

    def poll(self, now_ns: int, results: int, progressed: bool) -> None:
        """`results` so far; `progressed`: since the last call there was one, or a reason for none.

        Who waits for a light or a camera has not failed, and has not shown anything either."""
        if not progressed:
            return
        if results and not self._has_results:
            self._since_ns, self._has_results, self._settled = now_ns, True, False
        if self._settled or now_ns - self._since_ns < SETTLED_NS:
            return
        self._settled = True
        finish_trial(self._choice, results)


def finish_trial(choice: BundleChoice, results: int) -> None:
    """What a run has shown that has gone well for long enough, or to its end."""
    if results:
        choice.mark_good()
    else:
        choice.discount()


@contextmanager
def decide_trial(runtime: Runtime) -> Iterator[None]:
    """What ends the run decides: an orderly end is a good one, and a failure counts unless it is
    certainly none of the bundle's."""
    try:
        yield
    except UNRELATED_ERRORS:
        runtime.choice.discount()
        raise
    finish_trial(runtime.choice, runtime.latency.count)


MIN_FREE_BYTES = 1 << 20


class StateDisk:
    """Nothing is written during a run, so a full or read-only disk ends none. People must know all
    the same: the next update would fail."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Outside a systemd service there is nothing to look at."""
        self._faults = FaultLog(log, "disk can be written again")
        self._folder = environment.get("STATE_DIRECTORY", "").split(":")[0]

    @property
    def fault(self) -> str:
        return self._faults.fault

    def poll(self) -> None:
        """Takes microseconds: nothing is written."""
        if not self._folder:
            return
        try:
            fault = check_disk(os.statvfs(self._folder))
        except OSError as error:
            fault = f"disk: {error.strerror}: {self._folder}"
        self._faults.log_transition(fault)


def check_disk(status: os.statvfs_result) -> str:
    """What is wrong with it; "" when nothing is."""
    if status.f_flag & os.ST_RDONLY:
        return "disk: read-only"
    if status.f_frsize * status.f_bavail < MIN_FREE_BYTES:
        return "disk: full"
    return ""
