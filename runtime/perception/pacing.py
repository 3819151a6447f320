"""When to estimate: which frames at a level's frame rate, and when from audio alone.

In: timestamps of frames, and the time. Out: whether a frame is accepted, and when an estimate from
audio alone is due because frames are missing. No clock is read: a live run passes the machine's
time, a replay the file's.
"""

from __future__ import annotations

JITTER_TOLERANCE_NS = 4_000_000
"""Jitter of a camera's timestamps. A frame that is early by less is accepted."""


class FrameRateLimiter:
    """Limits a camera to a level's frame rate. The capture thread calls `accepts` once a frame."""

    def __init__(self) -> None:
        self.skipped = 0
        self._period_ns = 0
        self._due_ns = 0

    def set_rate(self, fps: float) -> None:
        """Set the frames a second to accept, 0 for all. May be called from any thread."""
        self._period_ns = round(1e9 / fps) if fps else 0

    def accepts(self, t_ns: int) -> bool:
        """Return whether to estimate from the frame captured at `t_ns`."""
        period_ns = self._period_ns
        if self._due_ns - t_ns > 2 * period_ns:  # timestamps went back: another camera
            self._due_ns = t_ns
        if self._due_ns - t_ns > JITTER_TOLERANCE_NS:
            self.skipped += 1
            return False
        self._due_ns = max(self._due_ns + period_ns, t_ns + period_ns // 2)
        return True


AUDIO_ONLY_PERIOD_NS = 250_000_000
"""Time between two estimates from audio alone, and from a frame to the first of them."""
MAX_WAIT_NS = 2_000_000_000
"""Wait for a frame after which frames are missing, whatever the camera's rate was."""
LATE_PERIODS = 1.5
"""Wait for a frame, in the camera's frame periods, after which it is missing."""
_GAPS = 8


class AudioOnlyTimer:
    """Decides when frames are missing. For one thread.

    The camera's frame period is estimated as the second longest of the newest eight gaps between
    frames. One lost or late frame does not change it, and two frames suffice after the camera has
    become slower. Gaps longer than `MAX_WAIT_NS` do not count. After the very first frame the
    period is unknown, and the wait is `MAX_WAIT_NS`.
    """

    def __init__(self, now_ns: int) -> None:
        self.due_ns = now_ns + AUDIO_ONLY_PERIOD_NS
        """When the next estimate from audio alone is due, unless a frame comes before."""
        self._frame_ns: int | None = None
        self._gaps_ns = [0] * _GAPS
        self._num_gaps = 0

    def note_frame(self, t_ns: int, now_ns: int) -> None:
        """Record a frame captured at `t_ns`."""
        if self._frame_ns is not None and 0 < t_ns - self._frame_ns <= MAX_WAIT_NS:
            self._gaps_ns[self._num_gaps % _GAPS] = t_ns - self._frame_ns
            self._num_gaps += 1
        self._frame_ns = t_ns
        wait_ns = MAX_WAIT_NS
        if self._num_gaps:
            wait_ns = min(MAX_WAIT_NS, round(LATE_PERIODS * self._find_period_ns()))
        self.due_ns = now_ns + max(AUDIO_ONLY_PERIOD_NS, wait_ns)

    def find_wait_ns(self, now_ns: int) -> int:
        """Return how long to wait for a frame: until `due_ns`, and at most one period, so that the
        waiting thread can report to the watchdog."""
        return min(max(0, self.due_ns - now_ns), AUDIO_ONLY_PERIOD_NS)

    def note_turn(self, now_ns: int) -> None:
        """Record that an estimate from audio alone was due, with audio or without."""
        self.due_ns = now_ns + AUDIO_ONLY_PERIOD_NS

    def _find_period_ns(self) -> int:
        longest = second = 0
        for gap_ns in self._gaps_ns:
            if gap_ns > longest:
                longest, second = gap_ns, longest
            elif gap_ns > second:
                second = gap_ns
        return second or longest
