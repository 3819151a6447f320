"""Times of a track's frames from the timestamps that a file states, some of which may be wrong.

In: the timestamp of each frame, those of the packets that follow it in the file, and those of the
other track nearby. Out: times that only go forward. A stray timestamp moves its own frame alone.
Where the timestamps of a whole track jump and nothing else in the file does, the jump is taken out,
so that the track stays with the other one. All times are nanoseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

GAP_NS = 20_000_000
"""Audio whose timestamps deviate by more is a gap or an overlap. Matroska rounds them to 1 ms."""
MAX_GAP_NS = 10_000_000_000
"""A longer gap counts only where the frame's stated duration or the other track confirms it."""
_JUMP_NS = 3_000_000_000
"""A shorter jump forward is a gap: files store the other track this much earlier or later."""
_MAX_STATED_NS = 60_000_000_000
"""A longer gap is none, whatever the frame's duration."""
_FAR_NS = 1_000_000_000
"""The first and the last timestamp are stray if they are farther than this from the others."""
_MAX_OVERLAP_NS = 200_000_000
"""Audio that goes back by more starts anew."""
_STEPS = 9
_FEW = 8


@dataclass(frozen=True, slots=True)
class Nearby:
    """Timestamps near one frame in the file."""

    ahead: Sequence[int] = ()
    """Of the track's packets whose frames are still to come."""
    durations: Sequence[int] = ()
    """Of the same packets, 0 where unknown."""
    delayed: Sequence[int] = ()
    """Of packets that the decoder holds. Some may never become a frame."""
    other: Sequence[int] = ()
    """Of the other track's packets that follow the frame's own in the file."""
    after_skipped: bool = False
    """The frames right before this one were left out on purpose."""


@dataclass(slots=True)
class Repairs:
    """What was done to the timestamps of one track."""

    frames: int = 0
    moved: int = 0
    """Frames whose time is not the stated one plus `shift_ns`."""
    largest_ns: int = 0
    """The largest of these moves."""
    shift_ns: int = 0
    """What is added to all timestamps since the newest jump that was taken out."""

    def note(self, stated_ns: int | None, t_ns: int) -> None:
        self.frames += 1
        moved_ns = 0 if stated_ns is None else abs(t_ns - stated_ns - self.shift_ns)
        self.moved += moved_ns > 0
        self.largest_ns = max(self.largest_ns, moved_ns)

    def describe(self) -> str:
        """Return what was done in a few words, "" for nothing."""
        parts = []
        if self.moved:
            parts.append(
                f"{self.moved} of {self.frames} moved, by up to {self.largest_ns / 1e9:.3f} s"
            )
        if self.shift_ns:
            parts.append(f"the last is {self.shift_ns / 1e9:+.3f} s from the stated one")
        return "; ".join(parts)


@dataclass(slots=True)
class _OtherTrack:
    """What the other track says about a jump. A file stores both tracks in the order of time, with
    a nearly constant difference between neighbours."""

    _leads_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_STEPS))

    def is_gap(self, by_ns: int, stated_ns: int, other: Sequence[int]) -> bool:
        """Return whether a track that jumps forward by `by_ns` to `stated_ns` has a gap there. If
        not, its timestamps alone jump."""
        if by_ns <= _JUMP_NS:
            return True
        if not other or not self._leads_ns:
            return by_ns <= MAX_GAP_NS
        return 2 * abs(stated_ns - median(other) - median(self._leads_ns)) < by_ns

    def note(self, stated_ns: int | None, other: Sequence[int]) -> None:
        """Record the timestamp of a frame beside those of the other track."""
        if stated_ns is not None and other:
            self._leads_ns.append(stated_ns - other[0])


@dataclass(slots=True)
class FrameTimes:
    """Times of a video track's frames, strictly increasing."""

    step_ns: int
    """From one frame to the next, as the file states it."""
    repairs: Repairs = field(default_factory=Repairs)
    _last_ns: int | None = None
    _duration_ns: int = 0
    _steps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_STEPS))
    _other: _OtherTrack = field(default_factory=_OtherTrack)

    def place(self, stated_ns: int | None, near: Nearby, duration_ns: int = 0) -> int:
        """Return the time of the next frame. `duration_ns`: how long it is shown, 0 if unknown."""
        ahead = sorted(stamp + self.repairs.shift_ns for stamp in near.ahead)
        if self._last_ns is None:
            t_ns = self._place_first(stated_ns, ahead)
        else:
            t_ns = self._place_next(self._last_ns, stated_ns, ahead, near)
            self._steps_ns.append(t_ns - self._last_ns)
        self._last_ns, self._duration_ns = t_ns, duration_ns
        self._other.note(stated_ns, near.other)
        self.repairs.note(stated_ns, t_ns)
        return t_ns

    def _place_first(self, stated_ns: int | None, ahead: Sequence[int]) -> int:
        if stated_ns is None:
            return ahead[0] - self.step_ns if ahead else 0
        if len(ahead) >= 3:
            usual_ns = (ahead[-1] - ahead[0]) / (len(ahead) - 1)
            too_early = ahead[0] - stated_ns > max(_FAR_NS, 10 * usual_ns)
            if too_early or stated_ns > median(ahead):
                return ahead[0] - self.step_ns
        return stated_ns

    def _place_next(
        self, last_ns: int, stated_ns: int | None, ahead: Sequence[int], near: Nearby
    ) -> int:
        if stated_ns is None:
            return self._fill(last_ns, ahead, near)
        t_ns = stated_ns + self.repairs.shift_ns
        if near.after_skipped:
            return max(t_ns, last_ns + 1)
        before = sum(last_ns < stamp < t_ns for stamp in ahead)
        after = sum(stamp >= t_ns for stamp in ahead)
        if t_ns <= last_ns:
            if ahead and t_ns < ahead[-1] <= last_ns:  # the timestamps start anew
                t_ns = last_ns + self._usual_step_ns()
                self.repairs.shift_ns = t_ns - stated_ns
                return t_ns
            return self._fill(last_ns, ahead, near)  # a stray timestamp, or another frame's
        if before > after:
            return self._fill(last_ns, ahead, near)
        jump_ns = t_ns - last_ns - self._usual_step_ns()
        stated = 2 * self._duration_ns > jump_ns and jump_ns <= _MAX_STATED_NS
        if not stated and not self._other.is_gap(jump_ns, stated_ns, near.other):
            if not ahead:
                return self._fill(last_ns, ahead, near)
            self.repairs.shift_ns -= jump_ns
            return t_ns - jump_ns
        return t_ns

    def _fill(self, last_ns: int, ahead: Sequence[int], near: Nearby) -> int:
        """Return a time between the last frame and the next timestamp that can be right. The
        frames whose timestamps are behind share the room."""
        step_ns = self._duration_ns or self._usual_step_ns()
        step_ns = min(step_ns, 2 * self._usual_step_ns())
        later = [stamp for stamp in ahead if stamp > last_ns]
        sharing = 2 + len(ahead) - len(later)
        later += [t_ns for each in near.delayed if (t_ns := each + self.repairs.shift_ns) > last_ns]
        if later:
            step_ns = min(step_ns, (min(later) - last_ns) // sharing)
        return last_ns + max(1, step_ns)

    def _usual_step_ns(self) -> int:
        return int(median(self._steps_ns)) if len(self._steps_ns) >= 3 else self.step_ns


@dataclass(slots=True)
class AudioTimes:
    """Times of an audio track's frames: each begins where the one before ends, or after a gap, or
    overlaps the one before."""

    repairs: Repairs = field(default_factory=Repairs)
    _end_ns: int | None = None
    _other: _OtherTrack = field(default_factory=_OtherTrack)

    def place(self, stated_ns: int | None, near: Nearby, duration_ns: int) -> int:
        """Return the time of the next frame, which lasts `duration_ns`."""
        if self._end_ns is None:
            t_ns = self._place_first(stated_ns, near, duration_ns)
        else:
            t_ns = self._end_ns + self._find_deviation(self._end_ns, stated_ns, near, duration_ns)
        self._end_ns = t_ns + duration_ns
        self._other.note(stated_ns, near.other)
        stated = stated_ns
        if stated_ns is not None and abs(stated_ns + self.repairs.shift_ns - t_ns) <= GAP_NS:
            stated = t_ns - self.repairs.shift_ns  # rounding is no repair
        self.repairs.note(stated, t_ns)
        return t_ns

    def _place_first(self, stated_ns: int | None, near: Nearby, duration_ns: int) -> int:
        if stated_ns is None:
            return near.ahead[0] - duration_ns if near.ahead else 0
        deviations = _find_deviations(stated_ns, near, duration_ns)
        # A first frame far from all that follow is a stray one.
        if len(deviations) >= 3 and min(map(abs, deviations)) > _FAR_NS:
            return near.ahead[0] - duration_ns
        return stated_ns

    def _find_deviation(
        self, end_ns: int, stated_ns: int | None, near: Nearby, duration_ns: int
    ) -> int:
        """Return how far from the end of the audio so far the frame begins, 0 for contiguous."""
        if stated_ns is None:
            return 0
        own_ns = stated_ns + self.repairs.shift_ns - end_ns
        if abs(own_ns) <= GAP_NS:
            return 0
        sign = 1 if own_ns > 0 else -1
        following = [own_ns + more for more in _find_deviations(stated_ns, near, duration_ns)]
        if len(following) < _FEW:  # at the end of the file
            constant = all(abs(each - own_ns) <= GAP_NS for each in following)
            return own_ns if constant and 0 < own_ns <= _FAR_NS else 0
        deviating = [sign * each for each in (own_ns, *following) if sign * each > GAP_NS]
        # One of them may be stray. More show frames that share timestamps.
        if len(deviating) < len(following) or not _advances(stated_ns, near, duration_ns):
            return 0
        by_ns = sign * min(deviating)
        restarts = by_ns < -_MAX_OVERLAP_NS
        if restarts or (by_ns > 0 and not self._other.is_gap(by_ns, stated_ns, near.other)):
            self.repairs.shift_ns -= by_ns
            return 0
        return by_ns


def _find_deviations(stated_ns: int, near: Nearby, duration_ns: int) -> list[int]:
    """Return how far each following timestamp is from the end of the frames before it."""
    deviations = []
    end_ns = stated_ns + duration_ns
    for stamp, following_ns in zip(near.ahead, near.durations, strict=True):
        deviations.append(stamp - end_ns)
        end_ns += following_ns or duration_ns
    return deviations


def _advances(stated_ns: int, near: Nearby, duration_ns: int) -> bool:
    """Return whether the following timestamps go forward as the audio does."""
    length_ns = duration_ns + sum(each or duration_ns for each in near.durations[:-1])
    return 2 * (max(near.ahead) - stated_ns) >= length_ns
