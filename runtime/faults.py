"""Log of faults that come and go: one line at the beginning, each change of cause and the end."""

from __future__ import annotations

import logging

from .clock import Clock, MonotonicClock

CAUSES_AT_ONCE = 4
FIRST_QUIET_NS = 60_000_000_000
LONGEST_QUIET_NS = 3_600_000_000_000


class FaultLog:
    """The log of one fault. One thread writes; any thread may read `fault`.

    The first `CAUSES_AT_ONCE` beginnings and causes are logged at once. A later one, or a cause
    that returns, is logged only after a quiet time of 1 minute, then 2, 4 ... 60. So a fault that
    comes and goes, or whose cause alternates at each attempt, does not flood the log, and its
    newest line is at most an hour out of date. The end is logged if the fault was. After an hour
    without a fault the next one is the first again.
    """

    def __init__(self, log: logging.Logger, over: str = "", clock: Clock | None = None) -> None:
        """`over` is logged when the fault ends; "" logs nothing."""
        self.fault = ""
        """The present fault, "" for none."""
        self._log = log
        self._over = over
        self._clock = clock or MonotonicClock()
        self._logged = ""
        self._causes: list[tuple[str, int]] = []
        """Of the beginnings and changes that were logged at once, with the level: a reader of
        warnings has not seen what was logged as information."""
        self._ended_ns = 0
        self._due_ns = 0
        self._quiet_ns = FIRST_QUIET_NS

    def log_transition(self, fault: str, level: int = logging.WARNING) -> None:
        """Set the fault to `fault`, its cause in one line, or "" for none. Called at each poll."""
        before, self.fault = self.fault, fault
        if fault and fault != self._logged:
            if self._is_due((fault, level), begins=not before):
                self._logged = fault
                self._log.log(level, "%s", fault)
            elif fault != before:
                self._log.debug("%s", fault)
        elif before and not fault:
            if self._over:
                self._log.log(level if self._logged else logging.DEBUG, "%s", self._over)
            self._logged = ""
            self._ended_ns = self._clock.now_ns()

    def _is_due(self, cause: tuple[str, int], begins: bool) -> bool:
        """Return whether `cause` may be logged now, and start the next quiet time if so. `begins`:
        there was no fault before."""
        now_ns = self._clock.now_ns()
        if begins and now_ns - self._ended_ns >= LONGEST_QUIET_NS:
            self._causes.clear()
            self._quiet_ns = FIRST_QUIET_NS
        if (begins or cause not in self._causes) and len(self._causes) < CAUSES_AT_ONCE:
            self._causes.append(cause)
        elif now_ns < self._due_ns:
            return False
        else:
            self._quiet_ns = min(2 * self._quiet_ns, LONGEST_QUIET_NS)
        self._due_ns = now_ns + self._quiet_ns
        return True
