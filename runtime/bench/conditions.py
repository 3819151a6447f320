"""Conditions of a run: load, sensors, context switches, versions of packages.

In: this machine before and after a run. Out: the part of the report that tells a reader how far to
trust the figures.
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
    """Context switches of this process: to wait (voluntary) and preempted (involuntary)."""

    voluntary: int
    involuntary: int


class Conditions:
    """Readings before a run. `describe` takes those after it."""

    def __init__(self, board: Board | None = None) -> None:
        self._load_average = os.getloadavg()[0]  # of the last minute
        self._board = board or open_board()
        self._before = self._board.read()
        self._usage_before = read_usage()

    def start(self) -> None:
        """Count context switches from here: the engines are open, the first frame comes next."""
        self._usage_before = read_usage()

    def describe(self) -> dict[str, Any]:
        """Return the conditions as in the JSON file."""
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
    """Return the throttling events during a run, by cause.

    A counter that went back restarted at 0. A counter that is new gives no difference.
    """
    first = before.throttle_events
    return {
        name: count - first[name] if count >= first[name] else count
        for name, count in after.throttle_events.items()
        if name in first
    }


def read_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in MEASURED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
