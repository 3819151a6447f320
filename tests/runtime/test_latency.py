"""The latency log against NumPy on a plain list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.latency import LatencyLog


@given(st.lists(st.floats(0, 200_000, width=32), max_size=50), st.integers(1, 20))
def test_percentiles_of_the_newest(latencies_us: list[float], capacity: int) -> None:
    """Of the last `capacity` values; count and misses of all."""
    log = LatencyLog(45.0, capacity)
    for value in latencies_us:
        log.add(value, {"face": value / 2})
    kept = np.array(latencies_us[-capacity:]) / 1e3
    want = np.percentile(kept, [50, 99]) if len(kept) else [0, 0]
    assert log.percentiles_ms(50, 99) == pytest.approx(want, rel=1e-5)
    assert log.count == len(latencies_us)
    assert log.misses == sum(value / 1e3 > 45.0 for value in latencies_us)
    stages = log.stage_percentiles_ms(50)
    if latencies_us:
        assert stages["face"] == pytest.approx([want[0] / 2], rel=1e-5)
    else:
        assert stages == {}


def test_exactly_on_budget_is_no_miss() -> None:
    """45 ms are allowed."""
    log = LatencyLog(45.0)
    log.add(45_000, {})
    log.add(45_001, {})
    assert log.misses == 1
