"""How faults that come and go are logged: when one begins, when its cause changes, when it ends."""

from __future__ import annotations

import logging

from .clock import Clock, MonotonicClock

CAUSES_AT_ONCE = 4
FIRST_QUIET_NS = 60_000_000_000
LONGEST_QUIET_NS = 3_600_000_000_000


class FaultLog:
    """The log of one fault, for one thread.

    The first `CAUSES_AT_ONCE` causes are logged as they come. After them, or when one of them is
    back, nothing is logged for a minute, then for 2, 4 ... 60: a fault whose causes alternate at
    each attempt, or carry a number, does not flood, and still the newest line becomes true.
    """

    def __init__(self, log: logging.Logger, over: str = "", clock: Clock | None = None) -> None:
        """`over` is logged at the end of the fault."""
        self.fault = ""
        """As it is now, "" for none; may be read from any thread."""
        self._log = log
        self._over = over
        self._clock = clock or MonotonicClock()
        self._logged = ""
        self._causes: list[str] = []
        self._due_ns = 0
        self._quiet_ns = FIRST_QUIET_NS

    def log_transition(self, fault: str, level: int = logging.WARNING) -> None:
        """`fault` is its cause in one line, "" for none. Called at every look."""
        before, self.fault = self.fault, fault
        if fault and fault != self._logged:
            if self._is_due(fault):
                self._logged = fault
            else:
                level = logging.DEBUG
            self._log.log(level, "%s", fault)
        elif before and not fault:
            if self._over:
                self._log.log(level, "%s", self._over)
            self._logged = ""
            self._causes.clear()
            self._quiet_ns = FIRST_QUIET_NS

    def _is_due(self, cause: str) -> bool:
        now_ns = self._clock.now_ns()
        if cause not in self._causes and len(self._causes) < CAUSES_AT_ONCE:
            self._causes.append(cause)
        elif now_ns < self._due_ns:
            return False
        else:
            self._quiet_ns = min(2 * self._quiet_ns, LONGEST_QUIET_NS)
        self._due_ns = now_ns + self._quiet_ns
        return True
