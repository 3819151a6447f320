"""Whether an update and its trial could be kept: the disk under systemd's state folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from .faults import FaultLog

log = logging.getLogger(__name__)

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
