"""Update check: whether the bundle of this run is good, and whether an update could be stored.

In: the progress of the run, the error that ends it, and the file system of systemd's state folder.
Out: the bundle on trial is marked good, or this start is discounted; a fault of the disk.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..engines.bundles import BundleChoice
from .config import ConfigError
from .faults import FaultLog
from .messages import ListenError, OutputError, SourceError
from .service import IndicatorError
from .session import Runtime

log = logging.getLogger(__name__)

SETTLED_NS = 25_000_000_000
"""After results for this long, the bundle is good. It is more than twice WatchdogSec in
emotion-edge.service, so a network that hangs ends the run before."""
UNRELATED_ERRORS = (SourceError, IndicatorError, ConfigError, ListenError, OutputError)
"""Errors that the bundle cannot cause once its networks are verified: a device, the indicator, a
port in use."""
MIN_FREE_BYTES = 1 << 20


class Trial:
    """The trial of the bundle during one run. The monitor updates it twice a second."""

    def __init__(self, choice: BundleChoice, begin_ns: int) -> None:
        self._choice = choice
        self._since_ns = begin_ns
        self._has_results = False
        self._settled = False

    def update(self, now_ns: int, results: int, progressed: bool) -> None:
        """Decide the trial once the run has made progress for `SETTLED_NS`.

        `results` counts the estimates so far. `progressed`: since the last call there was one, or
        a known reason for none. A run that only waited for its devices is discounted."""
        if not progressed:
            return
        if results and not self._has_results:
            self._since_ns, self._has_results, self._settled = now_ns, True, False
        if self._settled or now_ns - self._since_ns < SETTLED_NS:
            return
        self._settled = True
        finish_trial(self._choice, results)


def finish_trial(choice: BundleChoice, results: int) -> None:
    """Mark the bundle good after a run with `results`; without any, discount the start."""
    if results:
        choice.mark_good()
    else:
        choice.discount()


@contextmanager
def decide_trial(runtime: Runtime) -> Iterator[None]:
    """Decide the trial when the run ends. An orderly end finishes it. One of `UNRELATED_ERRORS`
    discounts the start. Any other error counts against the bundle."""
    try:
        yield
    except UNRELATED_ERRORS:
        runtime.choice.discount()
        raise
    finish_trial(runtime.choice, runtime.latency.count)


class StateDisk:
    """Fault of the file system that holds the state folder, for the monitor.

    A run writes nothing, so a full or read-only disk does not end it, but the next update would
    fail."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Without STATE_DIRECTORY, that is outside a systemd service, there is never a fault."""
        self._faults = FaultLog(log, "disk can be written again")
        self._folder = environment.get("STATE_DIRECTORY", "").split(":")[0]

    @property
    def fault(self) -> str:
        return self._faults.fault

    def poll(self) -> None:
        """Check the disk with statvfs(2), which takes microseconds."""
        if not self._folder:
            return
        try:
            fault = check_disk(os.statvfs(self._folder))
        except OSError as error:
            fault = f"disk: {error.strerror}: {self._folder}"
        self._faults.log_transition(fault)


def check_disk(status: os.statvfs_result) -> str:
    """Return the fault of a file system; "" for none."""
    if status.f_flag & os.ST_RDONLY:
        return "disk: read-only"
    if status.f_frsize * status.f_bavail < MIN_FREE_BYTES:
        return "disk: full"
    return ""
