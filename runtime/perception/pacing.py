"""Which pictures are looked at when a level wants fewer than the camera gives.

When an estimate is made of audio alone, because the camera's frames are missing.

In: the stamps of frames, and the time. Out: when the next estimate of audio alone is due. It knows
no clock: a live run gives the machine's time, a replay the file's.
"""

from __future__ import annotations

JITTER_TOLERANCE_NS = 4_000_000
"""A camera's pictures waver by this much; one that comes a little early is the one meant."""


class FrameRateLimiter:
    """Asked once for each picture, by the thread that captures."""

    def __init__(self) -> None:
        self.skipped = 0
        self._period_ns = 0
        self._due_ns = 0

    def set_rate(self, fps: float) -> None:
        """Pictures a second from now on, 0 for all; called from any thread."""
        self._period_ns = round(1e9 / fps) if fps else 0

    def accepts(self, t_ns: int) -> bool:
        """Whether the picture captured at `t_ns` is to be looked at."""
        period_ns = self._period_ns
        if self._due_ns - t_ns > 2 * period_ns:  # the stamps went back: the camera is another
            self._due_ns = t_ns
        if self._due_ns - t_ns > JITTER_TOLERANCE_NS:
            self.skipped += 1
            return False
        self._due_ns = max(self._due_ns + period_ns, t_ns + period_ns // 2)
        return True


AUDIO_ONLY_PERIOD_NS = 250_000_000
"""While frames are missing, estimates are made of audio alone this often, and not sooner than this
after a frame."""
MAX_WAIT_NS = 2_000_000_000
"""Frames are missing after this long, whatever the camera's rate was."""
LATE_PERIODS = 1.5
"""A frame is missing when it has been awaited for so many of the camera's frame periods."""
_GAPS = 8


class AudioOnlyTimer:
    """Learns the camera's frame period. One thread.

    The period is the second longest of the newest eight gaps between frames: one frame lost or late
    does not change it, and a camera that has become slower is known after two frames. Gaps longer
    than `MAX_WAIT_NS` say nothing about the period. After the very first frame it is unknown, and
    the next one is awaited for `MAX_WAIT_NS`.
    """

    def __init__(self, now_ns: int) -> None:
        self.due_ns = now_ns + AUDIO_ONLY_PERIOD_NS
        """When the next estimate of audio alone is due, unless a frame comes before."""
        self._frame_ns: int | None = None
        self._gaps_ns = [0] * _GAPS
        self._num_gaps = 0

    def note_frame(self, t_ns: int, now_ns: int) -> None:
        """A frame captured at `t_ns` is there."""
        if self._frame_ns is not None and 0 < t_ns - self._frame_ns <= MAX_WAIT_NS:
            self._gaps_ns[self._num_gaps % _GAPS] = t_ns - self._frame_ns
            self._num_gaps += 1
        self._frame_ns = t_ns
        wait_ns = MAX_WAIT_NS
        if self._num_gaps:
            wait_ns = min(MAX_WAIT_NS, round(LATE_PERIODS * self._find_period_ns()))
        self.due_ns = now_ns + max(AUDIO_ONLY_PERIOD_NS, wait_ns)

    def find_wait_ns(self, now_ns: int) -> int:
        """How long to wait for a frame: until the next turn, and no longer than from one turn to
        the next, so that whoever waits can tell that it is alive."""
        return min(max(0, self.due_ns - now_ns), AUDIO_ONLY_PERIOD_NS)

    def note_turn(self, now_ns: int) -> None:
        """An estimate of audio alone was due, whether or not there was audio to make it of."""
        self.due_ns = now_ns + AUDIO_ONLY_PERIOD_NS

    def _find_period_ns(self) -> int:
        longest = second = 0
        for gap_ns in self._gaps_ns:
            if gap_ns > longest:
                longest, second = gap_ns, longest
            elif gap_ns > second:
                second = gap_ns
        return second or longest
