"""The stretches of a clip that have one label.

In: estimates. Out: segments, and times and shares as people read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..messages import Estimate


@dataclass(frozen=True, slots=True)
class Segment:
    """From one change of the label to the next."""

    begin_ns: int
    end_ns: int
    label: str | None
    """None: the program abstained."""
    confidence: float
    """Mean of the estimates' confidence."""


def find_segments(estimates: Sequence[Estimate]) -> list[Segment]:
    """Return the segments of a clip. The last one ends with the last estimate."""
    segments: list[Segment] = []
    begin = 0
    for at in range(1, len(estimates) + 1):
        first = estimates[begin]
        if at < len(estimates) and estimates[at].label == first.label:
            continue
        end_ns = estimates[min(at, len(estimates) - 1)].t_ns
        confidences = [float(estimate.confidence) for estimate in estimates[begin:at]]
        mean = sum(confidences) / len(confidences)
        segments.append(Segment(first.t_ns, end_ns, first.label, mean))
        begin = at
    return segments


def show_time(t_ns: int) -> str:
    """Return a time of a clip, such as "1:02.5"."""
    tenths = round(t_ns / 1e8)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{start}:{rest // 10:02}.{rest % 10}"


def show_share(share: float) -> str:
    return f"{share:.0%}"
