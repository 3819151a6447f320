"""Under which conditions a benchmark was run: load, sensors, context switches, versions.

In: this machine before and after a run. Out: what a reader needs to know whether to believe it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..board import Board, BoardStatus, open_board

MEASURED_PACKAGES = (
    "emotion-edge",
    "numpy",
    "numba",
    "onnxruntime",
    "tensorrt",
    "pycuda",
    "opencv-python-headless",
    "av",
)


@dataclass(frozen=True, slots=True)
class Usage:
    """How often this process has left a processor: to wait, and because it had to."""

    voluntary: int
    involuntary: int


class Conditions:
    """Made before a run; `describe` when it is over."""

    def __init__(self, board: Board | None = None) -> None:
        self._load_average = os.getloadavg()[0]  # of the last minute
        self._board = board or open_board()
        self._before = self._board.read()
        self._usage_before = read_usage()

    def start(self) -> None:
        """Count context switches from here: engines have been opened, pictures are about to
        come."""
        self._usage_before = read_usage()

    def describe(self) -> dict[str, Any]:
        after, usage, before = self._board.read(), read_usage(), self._usage_before
        return {
            "sensors": {
                "before": asdict(self._before),
                "after": asdict(after),
                "throttle_events": count_events(self._before, after),
            },
            "context_switches": {
                "voluntary": usage.voluntary - before.voluntary,
                "involuntary": usage.involuntary - before.involuntary,
            },
            "load_average_before": round(self._load_average, 2),
        }


def read_usage() -> Usage:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_nvcsw, used.ru_nivcsw)


def count_events(before: BoardStatus, after: BoardStatus) -> Mapping[str, int]:
    """By cause. A counter that went back began anew at 0; one that was not there before is not
    known to have counted anything in between."""
    first = before.throttle_events
    return {
        name: count - first[name] if count >= first[name] else count
        for name, count in after.throttle_events.items()
        if name in first
    }


def read_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in MEASURED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
