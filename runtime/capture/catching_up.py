"""What to leave out where a file is played in real time and cannot be decoded as fast.

In: the media time that is due now. Out: which packets are not decoded, and which decoded frames are
not converted. The clock never waits for the decoder: like a camera's, late frames are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DueTime = Callable[[], int]
"""Returns the media time that is due now."""

_TOLERANCE_NS = 10_000_000
"""A frame that is late by less is delivered."""
_LONG_NS = 250_000_000
"""A frame that is shown for longer is delivered until its end."""
_PATIENCE_NS = 1_000_000_000
"""A track of which no frame was in time for so long goes on at a later key frame."""
_LEAD_NS, _MAX_LEAD_NS = 200_000_000, 10_000_000_000
"""How far after the time that is due it goes on, since the decoder needs a while for the first
frame: twice as far each time that this frame is late."""
_LONG_AGO_NS = -(1 << 62)
_MAX_JUMP = 3000
"""Packets after which it goes on at any key frame: the timestamps may be wrong."""


class CatchUp:
    """Decides for one track, packet by packet and frame by frame, what is too late."""

    def __init__(self, due_ns: DueTime, key_gap_ns: int = 0) -> None:
        """`key_gap_ns`: the time between the first two key frames, 0 if there may be one alone."""
        self.shift_ns = 0
        """What is added to the timestamps of packets for the times of their frames."""
        self.may_lose = False
        """The decoder may leave out the frame of the newest packet."""
        self.left_out = 0
        """Frames that were left out and not taken account of yet."""
        self._due_ns = due_ns
        self._timely_ns: int | None = None
        """Media time that was due at the newest frame in time."""
        self._key_ns: int | None = None
        self._key_gap_ns = key_gap_ns
        """The longest time between two key frames so far."""
        self._lead_ns = _LEAD_NS
        self._is_first = False
        """The next frame is the first one after a jump."""
        self._is_hurrying = False
        self._jumping = False
        self._jumped = 0
        self._resumed_ns = _LONG_AGO_NS
        """Timestamp of the key frame after the newest jump. Earlier ones may follow in the file."""

    def skips(self, track: Any, packet: Any, stamp_ns: int | None) -> bool:
        """Return whether to leave out the packet with this timestamp. While it is late, the decoder
        itself leaves out frames that no other one needs."""
        if stamp_ns is None:
            return self._jumping
        due_ns = self._due_ns()
        late_ns = due_ns - stamp_ns - self.shift_ns
        if packet.is_keyframe:
            if self._key_ns is not None:
                self._key_gap_ns = max(self._key_gap_ns, stamp_ns - self._key_ns)
            self._key_ns = stamp_ns
        if self._jumping:
            self._jumped += 1
            ahead = late_ns <= -self._lead_ns or self._jumped > _MAX_JUMP
            self._jumping = not (packet.is_keyframe and ahead)
            if not self._jumping:
                self._timely_ns, self._resumed_ns = due_ns, stamp_ns
                self._is_first = True
        elif late_ns > _TOLERANCE_NS and self._has_lost_patience(due_ns):
            self._jumping, self._jumped = True, 0
            track.codec_context.flush_buffers()
        if self._is_hurrying != (late_ns > _TOLERANCE_NS):
            self._is_hurrying = not self._is_hurrying
            track.codec_context.skip_frame = "NONREF" if self._is_hurrying else "DEFAULT"
        self.may_lose = self._is_hurrying or stamp_ns < self._resumed_ns
        return self._jumping

    def is_late(self, t_ns: int, shown_ns: int) -> bool:
        """Return whether it is too late for a frame of `t_ns` that is shown for `shown_ns`."""
        due_ns = self._due_ns()
        is_late = due_ns - t_ns > (shown_ns if shown_ns > _LONG_NS else _TOLERANCE_NS)
        if not is_late or self._timely_ns is None:
            self._timely_ns = due_ns
        if self._is_first:
            self._is_first = False
            self._lead_ns = min(2 * self._lead_ns, _MAX_LEAD_NS) if is_late else _LEAD_NS
        return is_late

    def note(self, left_out: int) -> None:
        self.left_out += left_out

    def take_left_out(self) -> int:
        left_out, self.left_out = self.left_out, 0
        return left_out

    def _has_lost_patience(self, due_ns: int) -> bool:
        # With one key frame alone nothing could be decoded any more after a jump.
        if self._timely_ns is None or not self._key_gap_ns:
            return False
        return due_ns - self._timely_ns > min(_PATIENCE_NS, self._key_gap_ns)
