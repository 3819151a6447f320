"""Capture times on CLOCK_MONOTONIC from the timestamps of drivers and frameworks.

`DriverTimestamps` checks a driver's timestamps, which are on our clock if they are right.
`CaptureClock` maps the timestamps of a clock with an unknown zero, such as GStreamer's running
time, `StreamClock` those of a network stream. `FrameCounter` numbers frames by their timestamps,
where nothing else numbers them.
A frame gets its driver's time if that is possible, else the time of its arrival.
"""

from __future__ import annotations

import logging
from collections import deque

_LOG = logging.getLogger(__name__)

DRIVER_CLOCK = "v4l2 monotonic"
ARRIVAL_CLOCK = "time of arrival"

_TOO_OLD_NS = 1_000_000_000
_FUTURE_NS = 1_000_000
_NEVER = 1 << 63


class DriverTimestamps:
    """Checks the timestamps of one camera. Each frame's time is later than the one before."""

    def __init__(self, device: str) -> None:
        self.clock_domain = DRIVER_CLOCK
        """The clock of the newest frame's time; before the first frame, the expected one."""
        self._device = device
        self._last_ns = -1
        self._shortest_delay_ns = _NEVER
        self._verified = False
        self._warned = False

    def capture_ns(self, driver_ns: int, now_ns: int) -> int:
        """Return the driver's time; if that is impossible, `now_ns` (CLOCK_MONOTONIC) less the
        shortest delay so far. Without the delay, a replaced time would make the next true one look
        like a step back, and so on for every later frame.

        A time in the future or no later than the last one is impossible. So is one older than a
        second, until the first possible time of this driver. After that an old time is right: the
        reader was late, and the frame is old.
        """
        age_ns = now_ns - driver_ns
        possible = age_ns >= -_FUTURE_NS and (self._verified or age_ns <= _TOO_OLD_NS)
        if possible and driver_ns > self._last_ns:
            self.clock_domain = DRIVER_CLOCK
            self._verified = True
            self._shortest_delay_ns = min(self._shortest_delay_ns, max(0, age_ns))
            self._last_ns = driver_ns
            return driver_ns
        self.clock_domain = ARRIVAL_CLOCK
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "camera %s: its timestamp of %.3f ms cannot be a capture on CLOCK_MONOTONIC "
                "(now %.3f ms); using the time of arrival, which is later than the capture",
                self._device,
                driver_ns / 1e6,
                now_ns / 1e6,
            )
        delay_ns = self._shortest_delay_ns if self._verified else 0
        self._last_ns = max(self._last_ns + 1, now_ns - delay_ns)
        return self._last_ns


class ShortestDelay:
    """The shortest recent delay between timestamps and the arrival of what they belong to.

    A frame arrives late by a delay that varies, and never early. So arrival minus timestamp is
    least for the frame that was delivered fastest. That minimum is the offset of the two clocks
    plus the shortest delay, which cannot be told apart here.
    The minimum is over a sliding window. A late frame does not move it, and it follows drift.
    """

    WINDOW_NS = 10_000_000_000
    """The minimum covers the last half to whole window. That is long enough to contain a fast
    frame, and short enough that 100 ppm of drift make 1 ms."""

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self._half_ns = window_ns // 2
        self._older = self._newer = _NEVER  # least delay in the previous and in this half
        self._half_end_ns = -_NEVER

    def update(self, timestamp_ns: int, arrived_ns: int) -> int:
        """Return the shortest delay, this one included."""
        delay_ns = arrived_ns - timestamp_ns
        if arrived_ns >= self._half_end_ns:
            recent = arrived_ns < self._half_end_ns + self._half_ns
            self._older = self._newer if recent else _NEVER
            self._newer = delay_ns
            self._half_end_ns = arrived_ns + self._half_ns
        self._newer = min(self._newer, delay_ns)
        return min(self._older, self._newer)


class CaptureClock:
    """Maps timestamps to CLOCK_MONOTONIC by the shortest recent delay. A mapped time is late by
    that delay."""

    def __init__(self, window_ns: int = ShortestDelay.WINDOW_NS) -> None:
        self._delay = ShortestDelay(window_ns)
        self._last_ns = -_NEVER

    def to_monotonic(self, timestamp_ns: int, returned_ns: int) -> int:
        """Return the capture time: after the previous frame's, and not after `returned_ns`."""
        return self._advance(timestamp_ns + self._delay.update(timestamp_ns, returned_ns))

    def estimate_capture(self, returned_ns: int) -> int:
        """Return the time for a frame without a usable timestamp: that of its arrival."""
        return self._advance(returned_ns)

    def _advance(self, t_ns: int) -> int:
        # A shorter delay moves the next frame back, but not before the last one.
        self._last_ns = max(t_ns, self._last_ns + 1)
        return self._last_ns


class StreamClock:
    """Maps the media time of a live stream's two tracks to CLOCK_MONOTONIC, both by one offset.

    It is that of the track that takes longer: what is seen and heard at one time then comes
    together, and the faster track is held back until its time. But pictures wait for sound at most
    `MAX_APART_NS`.
    """

    MAX_APART_NS = 500_000_000

    def __init__(self) -> None:
        self._video, self._audio = ShortestDelay(), ShortestDelay()
        self._video_ns: int | None = None
        self._audio_ns: int | None = None
        self._last_frame_ns = self._last_chunk_ns = -_NEVER

    def time_frame(self, media_ns: int, arrived_ns: int) -> int:
        """Return the time of a frame, later than that of the one before."""
        self._video_ns = self._video.update(media_ns, arrived_ns)
        self._last_frame_ns = max(media_ns + self._offset_ns(), self._last_frame_ns + 1)
        return self._last_frame_ns

    def time_chunk(self, media_ns: int, length_ns: int, arrived_ns: int) -> int:
        """Return the time of the first sample of a chunk, which arrives after its last sample."""
        self._audio_ns = self._audio.update(media_ns + length_ns, arrived_ns)
        self._last_chunk_ns = max(media_ns + self._offset_ns(), self._last_chunk_ns + 1)
        return self._last_chunk_ns

    def _offset_ns(self) -> int:
        known = [delay for delay in (self._video_ns, self._audio_ns) if delay is not None]
        offset_ns = max(known)
        if self._video_ns is not None:
            offset_ns = min(offset_ns, self._video_ns + self.MAX_APART_NS)
        return offset_ns


class FrameCounter:
    """Numbers frames by their timestamps: a step of three periods means two lost frames.

    This is an estimate. The period is the median of the last nine steps. A gap does not change it,
    but a camera that exposes longer in the dark does. From 30 to 15 frames a second that takes five
    frames, each of which counts as two.
    """

    STEPS = 9

    def __init__(self, period_ns: float) -> None:
        """`period_ns`: from one frame to the next, as the source states it."""
        self._steps_ns = deque([period_ns] * self.STEPS, self.STEPS)
        self._index = -1
        self._timestamp_ns: int | None = None
        self._since = 0  # frames since that timestamp

    def number(self, timestamp_ns: int | None) -> int:
        """Return the frame's number, from 0. A frame without a timestamp counts as the next one."""
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
