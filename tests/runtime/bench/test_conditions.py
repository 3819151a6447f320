"""Conditions of a run in the report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from emotion_edge.runtime.bench.conditions import Conditions, count_events, read_versions
from emotion_edge.runtime.board.status import BoardStatus


def status(events: Mapping[str, int] | None = None, temperature_c: float = 40.0) -> BoardStatus:
    return BoardStatus(10.0, 1000.0, 100.0, temperature_c, None, throttle_events=events or {})


class Board:
    def __init__(self, *readings: BoardStatus) -> None:
        self.readings = list(readings)

    def read(self) -> BoardStatus:
        return self.readings.pop(0)


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        ({"thermal": 3}, {"thermal": 5}, {"thermal": 2}),
        ({"thermal": 3}, {"thermal": 3}, {"thermal": 0}),
        ({"thermal": 3}, {"thermal": 1}, {"thermal": 1}),
        ({}, {"thermal": 1}, {}),
        ({"thermal": 3}, {}, {}),
    ],
)
def test_throttle_events(
    before: dict[str, int], after: dict[str, int], want: dict[str, int]
) -> None:
    """Counters may restart, appear late, or disappear."""
    assert count_events(status(before), status(after)) == want


def test_before_and_after() -> None:
    """Sensors before and after the run, context switches and load."""
    conditions = Conditions(Board(status({"oc1": 1}, 40.0), status({"oc1": 4}, 61.5)))
    conditions.start()
    entry = conditions.describe()
    assert entry["sensors"]["before"]["temperature_c"] == 40.0
    assert entry["sensors"]["after"]["temperature_c"] == 61.5
    assert entry["sensors"]["throttle_events"] == {"oc1": 3}
    assert entry["context_switches"]["voluntary"] >= 0
    assert entry["context_switches"]["involuntary"] >= 0
    assert entry["load_average_before"] >= 0


def test_versions() -> None:
    """A package that is not installed has an entry too."""
    versions = read_versions()
    assert versions["numpy"] == np.__version__
    assert versions["tensorrt"]
