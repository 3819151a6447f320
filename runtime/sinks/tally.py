"""What a clip or an interval was like: how long each label lasted, what changed, face by face.

In: estimates, one after the other. Out: a `Summary`. An estimate lasts until the next one, but no
longer than `MAX_STEP_NS`: a gap belongs to no label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..messages import Estimate

MAX_STEP_NS = 1_000_000_000
MAX_FACES = 1000
"""More faces than this in one summary are counted, not listed."""


@dataclass(slots=True)
class Shares:
    """How long each label lasted."""

    label_ns: Counter[str] = field(default_factory=Counter)
    abstained_ns: int = 0
    changes: int = 0
    """Times that another label came, with or without an abstention between."""
    _last: str | None = None

    @property
    def total_ns(self) -> int:
        return sum(self.label_ns.values()) + self.abstained_ns

    def add(self, label: str | None, step_ns: int) -> None:
        """Add a label, or None for an abstention, that lasts for so long."""
        if label is None:
            self.abstained_ns += step_ns
            return
        self.label_ns[label] += step_ns
        if self._last is not None and label != self._last:
            self.changes += 1
        self._last = label

    def share(self, ns: int) -> float:
        """Return a time as a share of all, 0 to 1."""
        return ns / self.total_ns if self.total_ns else 0.0


@dataclass(slots=True)
class Summary:
    """A clip or an interval. Times are those of the estimates."""

    begin_ns: int = 0
    end_ns: int = 0
    """End of the last estimate's time."""
    estimates: int = 0
    shares: Shares = field(default_factory=Shares)
    with_face_ns: int = 0
    with_voice_ns: int = 0
    faces: dict[str, Shares] = field(default_factory=dict)
    """By the id of the face, in the order of their appearance; the first `MAX_FACES`."""
    more_faces: int = 0


class Tally:
    """Counts the estimates of a summary. The last one is counted when the next has come, or by
    `take`."""

    def __init__(self) -> None:
        self._summary = Summary()
        self._last: Estimate | None = None
        self._step_ns = 0
        """How long the last counted estimate lasted; the last of all lasts as long."""
        self._others: set[str] = set()

    @property
    def begin_ns(self) -> int | None:
        """Time of the first estimate of the present summary; None before it."""
        return self._summary.begin_ns if self._summary.estimates else None

    def add(self, estimate: Estimate) -> None:
        """Count an estimate."""
        if self._last is not None:
            self._count(self._last, min(estimate.t_ns - self._last.t_ns, MAX_STEP_NS))
        if not self._summary.estimates:
            self._summary.begin_ns = estimate.t_ns
        self._summary.estimates += 1
        self._last = estimate

    def take(self) -> Summary:
        """Return the summary up to now, and begin a new one."""
        if self._last is not None:
            self._count(self._last, self._step_ns)
            self._last = None
        summary, self._summary = self._summary, Summary()
        self._others.clear()
        return summary

    def _count(self, estimate: Estimate, step_ns: int) -> None:
        summary = self._summary
        self._step_ns = step_ns
        summary.end_ns = estimate.t_ns + step_ns
        summary.shares.add(None if estimate.abstained else estimate.label, step_ns)
        summary.with_face_ns += step_ns if estimate.face is not None else 0
        summary.with_voice_ns += step_ns if estimate.voice is not None else 0
        for face in estimate.faces:
            shares = summary.faces.get(face.id)
            if shares is None:
                if len(summary.faces) >= MAX_FACES:
                    if len(self._others) < MAX_FACES and face.id not in self._others:
                        self._others.add(face.id)
                        summary.more_faces += 1
                    continue
                shares = summary.faces[face.id] = Shares()
            shares.add(face.label, step_ns)


def summarize(estimates: Iterable[Estimate]) -> Summary:
    """Return the summary of a whole clip."""
    tally = Tally()
    for estimate in estimates:
        tally.add(estimate)
    return tally.take()
