"""Which time a picture gets: its driver's, if that can be true, else that of its arrival."""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)

DRIVER_CLOCK = "v4l2 monotonic"
ARRIVAL_CLOCK = "time of arrival"

_TOO_OLD_NS = 1_000_000_000
_FUTURE_NS = 1_000_000


class DriverTimestamps:
    """Checks the time stamps of one camera; every picture's time is later than the one before."""

    def __init__(self, device: str) -> None:
        self.clock_domain = DRIVER_CLOCK
        """Whose clock the newest picture's time is from; before the first one, the hope."""
        self._device = device
        self._last_ns = -1
        self._proven = False
        self._warned = False

    def capture_ns(self, driver_ns: int, now_ns: int) -> int:
        """The driver's time, or `now_ns` (CLOCK_MONOTONIC) when it is in the future, no later than
        the last, or older than a second while no time of this driver has been possible yet. After
        that an old time is true: whoever reads was kept from reading, and the picture is old."""
        age_ns = now_ns - driver_ns
        possible = age_ns >= -_FUTURE_NS and (self._proven or age_ns <= _TOO_OLD_NS)
        if possible and driver_ns > self._last_ns:
            self.clock_domain = DRIVER_CLOCK
            self._proven = True
            self._last_ns = driver_ns
            return driver_ns
        self.clock_domain = ARRIVAL_CLOCK
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "camera %s: its timestamp of %.3f ms cannot be a capture on CLOCK_MONOTONIC "
                "(now %.3f ms); taking the time of arrival, which is later than the capture",
                self._device,
                driver_ns / 1e6,
                now_ns / 1e6,
            )
        self._last_ns = max(self._last_ns + 1, now_ns)
        return self._last_ns
