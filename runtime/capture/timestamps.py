"""What the stamps of somebody else's clock say: when a picture was taken, and how many are missing.

For a framework that stamps pictures on a clock whose zero it does not tell, such as GStreamer's
running time. In: a picture's stamp and our time when it was handed over. Out: CLOCK_MONOTONIC, and
a number that leaves room for the pictures that never came.

Which time a picture gets: its driver's, if that can be true, else that of its arrival.
"""

from __future__ import annotations

import logging
from collections import deque

log = logging.getLogger(__name__)


_NEVER = 1 << 63


class CaptureClock:
    """Maps stamps to our clock by the shortest delay seen of late.

    A picture is handed over late, by milliseconds that vary, and never early. So our time minus
    the stamp is least for the picture that was passed on fastest, and that least is the distance
    between the two clocks plus the shortest delay: a time from here is late by that delay, which
    nothing on this side can tell from the distance. The minimum is over a sliding window: a late
    picture does not move it, a clock that runs away is followed.
    """

    WINDOW_NS = 10_000_000_000
    """The minimum looks back by half of this to all of it: long enough that some picture was
    passed on at once, short enough that 100 ppm of drift make 1 ms."""

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self._half_ns = window_ns // 2
        self._older = self._newer = _NEVER  # least delay in the half before, and in this one
        self._half_end_ns = -_NEVER
        self._last_ns = -_NEVER

    def to_monotonic(self, timestamp_ns: int, returned_ns: int) -> int:
        """When the picture was taken: after the previous one, and not after `returned_ns`."""
        delay_ns = returned_ns - timestamp_ns
        if returned_ns >= self._half_end_ns:
            recent = returned_ns < self._half_end_ns + self._half_ns
            self._older = self._newer if recent else _NEVER
            self._newer = delay_ns
            self._half_end_ns = returned_ns + self._half_ns
        self._newer = min(self._newer, delay_ns)
        return self._advance(timestamp_ns + min(self._older, self._newer))

    def estimate_capture(self, returned_ns: int) -> int:
        """The time to give a picture whose stamp means nothing: that of its arrival."""
        return self._advance(returned_ns)

    def _advance(self, t_ns: int) -> int:
        # When a shorter delay turns up, the next picture is moved back, but not before the last.
        self._last_ns = max(t_ns, self._last_ns + 1)
        return self._last_ns


class FrameCounter:
    """Numbers pictures by their stamps: a step of three periods has swallowed two pictures.

    An estimate, for sources that number nothing. The period is the middle one of the last nine
    steps: a gap does not change it, but a camera that exposes longer in the dark does. From 30
    pictures a second to 15 it takes five pictures, each of which counts as two.
    """

    STEPS = 9

    def __init__(self, period_ns: float) -> None:
        """`period_ns`: from one picture to the next, as the source states it."""
        self._steps_ns = deque([period_ns] * self.STEPS, self.STEPS)
        self._index = -1
        self._timestamp_ns: int | None = None
        self._since = 0  # pictures since that stamp

    def number(self, timestamp_ns: int | None) -> int:
        """The picture's number, from 0. None: it has no stamp, and counts as the next one."""
        self._index += 1
        self._since += 1
        if timestamp_ns is None:
            return self._index
        if self._timestamp_ns is not None:
            step_ns = timestamp_ns - self._timestamp_ns
            period_ns = sorted(self._steps_ns)[self.STEPS // 2]
            self._index += max(0, round(step_ns / period_ns) - self._since)
            self._steps_ns.append(step_ns / self._since)
        self._timestamp_ns, self._since = timestamp_ns, 0
        return self._index


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
