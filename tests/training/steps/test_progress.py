"""The display of the steps."""

from __future__ import annotations

import pytest

from emotion_edge.training.steps.progress import Progress


def test_steps_are_named_and_timed(caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal each step is a line; its duration is that of the clock."""
    caplog.set_level("INFO")
    times = iter([10.0, 12.5, 12.5, 13.0])
    progress = Progress(clock=lambda: next(times))
    progress.begin("data")
    progress.plan(3)
    progress.begin("face network")
    progress.end()
    progress.end()
    progress.close()
    assert progress.timings == [("data", 2.5), ("face network", 0.5)]
    assert progress.done == 2
    (first, second) = (record.getMessage() for record in caplog.records)
    assert "1 of 1" in first
    assert "2 of 3" in second
    assert "face network" in second
