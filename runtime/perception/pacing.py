"""Which pictures are looked at when a level wants fewer than the camera gives."""

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
