"""Finds where the timestamps of all tracks of a file jump together.

In: the timestamps of a file's packets, in the order of the file. Out: what to add to them from
there on. Recordings that were joined (`cat a.ts b.ts`) start anew, and a recorder that paused for
hours goes on hours later. Whoever reads the packets in this order finds the same, so that two
readers of one file keep its tracks together.
"""

from __future__ import annotations

_BACK_NS = 1_000_000_000
"""More than the order of decoding differs from that of display."""
_FORWARD_NS = 10_000_000_000
_MAX_SUSPECTED = 100
"""Packets until the other tracks must have jumped too."""


class JoinFinder:
    """The jumps of one file's tracks. All times are nanoseconds, those that go in with `shift_ns`
    added."""

    def __init__(self, num_tracks: int) -> None:
        self.shift_ns = 0
        """To be added to each timestamp."""
        self.joins = 0
        self._num_tracks = num_tracks
        self._ends_ns: dict[int, int] = {}  # of each track so far
        self._firsts_ns: dict[int, int] = {}  # of each track that seems to have jumped
        self._suspected = 0

    @property
    def suspects(self) -> bool:
        """A track seems to have jumped, and others may follow."""
        return bool(self._firsts_ns)

    def push(self, track: int, stamp_ns: int, duration_ns: int) -> bool:
        """Take the timestamp of the next packet. Return whether all tracks have jumped: then
        `shift_ns` has changed, and the change goes for every packet since `suspects` is true."""
        end_ns = self._ends_ns.get(track)
        jumped = end_ns is not None and not -_BACK_NS < stamp_ns - end_ns < _FORWARD_NS
        if not jumped:
            self._ends_ns[track] = max(end_ns or stamp_ns, stamp_ns + duration_ns)
            if track in self._firsts_ns:  # it was a stray timestamp
                self._firsts_ns.clear()
        elif self._num_tracks > 1:
            self._firsts_ns[track] = min(stamp_ns, self._firsts_ns.get(track, stamp_ns))
        if not self._firsts_ns:
            self._suspected = 0
            return False
        self._suspected += 1
        if len(self._firsts_ns) == self._num_tracks and self._agree():
            self.shift_ns += max(self._ends_ns.values()) - min(self._firsts_ns.values())
            self.joins += 1
            self._ends_ns.clear()
            self._firsts_ns.clear()
            return True
        if self._suspected > _MAX_SUSPECTED:
            self._ends_ns.clear()
            self._firsts_ns.clear()
        return False

    def _agree(self) -> bool:
        """Return whether the tracks that jumped are near each other again."""
        firsts = self._firsts_ns.values()
        return max(firsts) - min(firsts) < _FORWARD_NS
