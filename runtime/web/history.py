"""The last minutes of a run, for a page that is opened later.

In: the estimates' lines. Out: one point for each half second, as JSON.
"""

from __future__ import annotations

from collections import deque

import msgspec

SPAN_S = 300.0
PERIOD_S = 0.5


class Line(msgspec.Struct):
    """What is read of an estimate's line."""

    label: str | None
    probabilities: dict[str, float]


class History:
    """The newest points."""

    def __init__(self) -> None:
        self._labels: list[str] = []
        self._points: deque[tuple[float, str | None, list[float]]] = deque(
            maxlen=round(SPAN_S / PERIOD_S)
        )
        self._decoder = msgspec.json.Decoder(Line)

    def add(self, line: bytes, now_s: float) -> None:
        """Add an estimate that came at `now_s`, on any monotonic clock."""
        if self._points and now_s - self._points[-1][0] < PERIOD_S:
            return
        estimate = self._decoder.decode(line)
        shares = estimate.probabilities
        if shares and list(shares) != self._labels:  # another run, of other models
            self._labels = list(shares)
            self._points.clear()
        row = [round(share, 3) for share in shares.values()]
        self._points.append((now_s, estimate.label, row))

    def encode(self, now_s: float) -> bytes:
        """Return labels and points: age in seconds, label or null, probabilities or nothing."""
        points = [
            (round(now_s - came_s, 2), label, row)
            for came_s, label, row in self._points
            if now_s - came_s <= SPAN_S
        ]
        return msgspec.json.encode({"labels": self._labels, "points": points})
