"""When to estimate: which frames at a level's frame rate, and when without a new frame.

In: timestamps of frames and audio, and the time. Out: whether a frame is accepted, when an estimate
is due because frames are missing, and the time of each estimate. No clock is read: a live run
passes the machine's time, a replay the file's.
"""

from __future__ import annotations

from ..messages import VideoFrame

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
"""Time between two estimates without a new frame, and from a frame to the first of them."""
MAX_WAIT_NS = 2_000_000_000
"""Wait for a frame after which frames are missing, whatever the camera's rate was."""
LATE_PERIODS = 1.5
"""Wait for a frame, in the camera's frame periods, after which it is missing."""
DELIVERY_NS = 15_000_000
"""Time in which frames and audio of one moment are delivered: a chunk of 10 ms, and the delay of a
thread. So long after its time an estimate without a new frame is made. What is captured until its
time is known by then, so a live run makes the estimates that a replay makes."""
MAX_LATE_NS = 1_000_000_000
"""A frame that is older than an estimate by more than this is not used."""
_GAPS = 8
_NEVER = 1 << 63


class EstimateTimer:
    """Times each estimate, later than the one before, and decides when frames are missing. For one
    thread.

    Estimates without a new frame lie on a grid of `AUDIO_ONLY_PERIOD_NS` that begins with each
    frame, or with the audio before the first frame.

    The camera's frame period is estimated as the second longest of the newest eight gaps between
    frames. One lost or late frame does not change it, and two frames suffice after the camera has
    become slower. Gaps longer than `MAX_WAIT_NS` do not count. Before the second frame the period
    is the time that the source says the first one is shown. If it does not, the wait is
    `MAX_WAIT_NS`.
    """

    def __init__(self) -> None:
        self.due_ns = _NEVER
        """Time of the next estimate without a new frame."""
        self.start_ns = _NEVER
        """Time of the first frame or sample, whichever came first."""
        self._frame_ns: int | None = None
        self._gaps_ns = [0] * _GAPS
        self._num_gaps = 0
        self._newest_ns: int | None = None
        """Time of the newest estimate."""

    def note_audio(self, first_ns: int | None) -> None:
        """Record that audio began at `first_ns`, None for not yet. It counts before the first
        frame."""
        if first_ns is not None and self.due_ns == _NEVER:
            self.start_ns = first_ns
            self.due_ns = first_ns + AUDIO_ONLY_PERIOD_NS

    def time_frame(self, t_ns: int, now_ns: int, shown_ns: int = 0) -> int | None:
        """Record a frame captured at `t_ns`, delivered by `now_ns` and shown for `shown_ns` (0 if
        that is unknown). Return the time of its estimate, None if it is too late for one.

        It is the capture time. A frame delivered after an estimate of a later time comes directly
        after that one.
        """
        if self._frame_ns is not None and 0 < t_ns - self._frame_ns <= MAX_WAIT_NS:
            self._gaps_ns[self._num_gaps % _GAPS] = t_ns - self._frame_ns
            self._num_gaps += 1
        self._frame_ns = t_ns
        self.start_ns = min(self.start_ns, t_ns)
        delay_ns = max(0, now_ns - t_ns - DELIVERY_NS)
        self.due_ns = t_ns + delay_ns + self._find_patience_ns(shown_ns)
        newest_ns = self._newest_ns
        if newest_ns is not None and t_ns <= newest_ns:
            if newest_ns - t_ns > MAX_LATE_NS:
                return None
            t_ns = newest_ns + 1
        self._newest_ns = t_ns
        return t_ns

    def is_due(self, now_ns: int) -> bool:
        """Return whether the estimate of `due_ns` is to be made."""
        return now_ns >= self.due_ns + DELIVERY_NS

    def time_turn(self, now_ns: int, audio_ns: int | None) -> int | None:
        """Record that an estimate without a new frame is due. `audio_ns` is the capture time of the
        newest sample, None if that is too old.

        Return the estimate's time, None without audio since the last one. Turns that were missed
        are skipped.
        """
        missed = max(0, (now_ns - DELIVERY_NS - self.due_ns) // AUDIO_ONLY_PERIOD_NS)
        due_ns = self.due_ns + missed * AUDIO_ONLY_PERIOD_NS
        self.due_ns = due_ns + AUDIO_ONLY_PERIOD_NS
        if audio_ns is None:
            return None
        t_ns = min(due_ns, audio_ns)
        if self._newest_ns is not None and t_ns <= self._newest_ns:
            return None
        self._newest_ns = t_ns
        return t_ns

    def find_wait_ns(self, now_ns: int) -> int:
        """Return how long to wait for a frame: until an estimate without one is to be made, and at
        most one period, so that the waiting thread can report to the watchdog."""
        return min(max(0, self.due_ns + DELIVERY_NS - now_ns), AUDIO_ONLY_PERIOD_NS)

    def _find_patience_ns(self, shown_ns: int) -> int:
        """Return the time from a frame's capture after which the next one is missing."""
        if LATE_PERIODS * shown_ns > MAX_WAIT_NS:  # a still image: no other is expected soon
            return AUDIO_ONLY_PERIOD_NS
        period_ns = self._find_period_ns() or shown_ns
        wait_ns = round(LATE_PERIODS * period_ns) if period_ns else MAX_WAIT_NS
        return max(AUDIO_ONLY_PERIOD_NS, min(MAX_WAIT_NS, wait_ns))

    def _find_period_ns(self) -> int:
        longest = second = 0
        for gap_ns in self._gaps_ns:
            if gap_ns > longest:
                longest, second = gap_ns, longest
            elif gap_ns > second:
                second = gap_ns
        return second or longest


def find_shown(frame: VideoFrame | None, t_ns: int) -> VideoFrame | None:
    """Return `frame` if its source still shows it at `t_ns`: a still image, or a slow video's."""
    return frame if frame is not None and t_ns < frame.t_ns + frame.shown_ns else None
