"""Makes each interval, or a whole run, one line of JSON. Keys are only ever added."""

from __future__ import annotations

from typing import Any

import msgspec

from ..messages import Estimate, RunInfo
from .jsonl import has_keys
from .tally import Shares, Summary, Tally
from .utc import TimeFinder

OWN_KEYS = {"begin_ns", "end_ns", "labels", "changes", "abstained"}


class SummaryLines:
    """The encoder of `summary:FILE`."""

    def __init__(self, interval_s: float, find_time: TimeFinder | None = None) -> None:
        """`interval_s`: length of an interval; 0: one for the whole run. `find_time` adds the time
        of day of the begin and the end."""
        self._interval_ns = round(interval_s * 1e9)
        self._find_time = find_time
        self._tally = Tally()
        self._source = ""
        self._labels: tuple[str, ...] = ()

    def header(self, info: RunInfo) -> bytes:
        """Return nothing: each line has its own keys."""
        self._source, self._labels = info.source, info.labels
        return b""

    def is_own(self, first_line: bytes) -> bool:
        """Return whether a file that begins with this line has summaries."""
        return has_keys(first_line, OWN_KEYS)

    def encode(self, estimate: Estimate) -> bytes:
        """Return the line of the interval that has ended, once it has."""
        begin_ns, line = self._tally.begin_ns, b""
        if begin_ns is not None and 0 < self._interval_ns <= estimate.t_ns - begin_ns:
            line = self._encode(self._tally.take())
        self._tally.add(estimate)
        return line

    def finish(self) -> bytes:
        """Return the line of the interval that the run's end cut short."""
        return self._encode(self._tally.take()) if self._tally.begin_ns is not None else b""

    def _encode(self, summary: Summary) -> bytes:
        fields = {"source": self._source, **describe_summary(summary, self._labels)}
        if self._find_time is not None:
            fields["begin_utc"] = self._find_time(summary.begin_ns)
            fields["end_utc"] = self._find_time(summary.end_ns)
        return msgspec.json.encode(fields) + b"\n"


def describe_summary(summary: Summary, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the keys of a summary: shares of its time with 4 digits."""
    shares = summary.shares
    return {
        "begin_ns": summary.begin_ns,
        "end_ns": summary.end_ns,
        "estimates": summary.estimates,
        **_describe_shares(shares, labels),
        "with_face": round(shares.share(summary.with_face_ns), 4),
        "with_voice": round(shares.share(summary.with_voice_ns), 4),
        "faces": [
            {"id": face, "seconds": round(own.total_ns / 1e9, 3), **_describe_shares(own, labels)}
            for face, own in summary.faces.items()
        ],
        "more_faces": summary.more_faces,
    }


def _describe_shares(shares: Shares, labels: tuple[str, ...]) -> dict[str, Any]:
    names = labels or tuple(shares.label_ns)
    return {
        "labels": {label: round(shares.share(shares.label_ns[label]), 4) for label in names},
        "abstained": round(shares.share(shares.abstained_ns), 4),
        "changes": shares.changes,
    }
