"""The time of day of an estimate, beside its CLOCK_MONOTONIC."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

TimeFinder = Callable[[int], str | None]
"""Returns the time of day of a `t_ns`, None if that is unknown."""


def find_utc(t_ns: int) -> str:
    """Return the time of day of a moment of CLOCK_MONOTONIC, such as 2026-11-30T18:36:00.123Z."""
    at_s = (time.time_ns() - time.monotonic_ns() + t_ns) / 1e9
    text = datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def find_no_utc(t_ns: int) -> None:
    """Return None: the times of a replay are those of the file."""
