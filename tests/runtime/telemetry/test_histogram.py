"""The histogram against NumPy on the plain values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.telemetry.latency import LIMIT_US, Histogram

DURATIONS_US = st.one_of(
    st.floats(0, 300), st.floats(0, 200_000), st.floats(0, LIMIT_US, exclude_max=True)
)
EXACT_RANKS = st.integers(0, 64).map(lambda number: number * 100 / 64)
"""Ranks whose position NumPy computes without rounding, so that both mean the same value."""


def record_all(values_us: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values_us:
        histogram.record(value)
    return histogram


@given(st.lists(DURATIONS_US, min_size=1, max_size=60), st.lists(EXACT_RANKS, max_size=5))
def test_percentiles_by_nearest_rank(values_us: list[float], ranks: list[float]) -> None:
    """Never less than the true value, and more by 1/64 or 1 us at most."""
    want = np.percentile(values_us, ranks, method="inverted_cdf")
    got = np.array(record_all(values_us).percentiles(*ranks))
    assert (got >= want).all()
    assert (got <= want + np.maximum(want / 64, 1)).all()


@given(st.lists(DURATIONS_US, min_size=1, max_size=40))
def test_largest_is_exact(values_us: list[float]) -> None:
    """Rank 100 and `max_us` are the value itself."""
    histogram = record_all(values_us)
    assert histogram.percentiles(100) == [max(values_us)]
    assert histogram.max_us == max(values_us)
    assert histogram.sum_us == pytest.approx(sum(values_us))


@given(st.lists(st.floats(), max_size=40))
def test_loses_no_count(values_us: list[float]) -> None:
    """Whatever is recorded: beyond the limit, negative, infinite or no number."""
    histogram = record_all(values_us)
    assert histogram.count == len(values_us)
    assert histogram.counts_up_to([math.inf]) == [len(values_us)]


@given(st.lists(DURATIONS_US, max_size=30), st.lists(DURATIONS_US, max_size=30))
def test_added_is_as_if_recorded(first_us: list[float], second_us: list[float]) -> None:
    """Two histograms put together say what one that had met all says."""
    merged = record_all(first_us)
    merged.add(record_all(second_us))
    want = record_all([*first_us, *second_us])
    bounds_us = [10.0**power for power in range(9)]
    ranks = (0, 25, 50, 90, 99, 100)
    assert merged.counts_up_to(bounds_us) == want.counts_up_to(bounds_us)
    assert merged.percentiles(*ranks) == want.percentiles(*ranks)
    assert merged.sum_us == pytest.approx(want.sum_us)


@given(st.lists(DURATIONS_US, max_size=50), st.floats(1, LIMIT_US))
def test_counts_up_to_a_bound(values_us: list[float], bound_us: float) -> None:
    """None that is over the bound, and all that are clearly under it."""
    (counted,) = record_all(values_us).counts_up_to([bound_us])
    assert counted <= sum(value <= bound_us for value in values_us)
    assert counted >= sum(value <= bound_us - max(bound_us / 64, 1) for value in values_us)


def test_every_bucket_is_narrow_enough() -> None:
    """Whole microseconds over the whole range, at and around each doubling."""
    edges = [2**power + step for power in range(1, 26) for step in (-1, 0, 1)]
    for value in [*edges, LIMIT_US - 1]:
        histogram = record_all([value, LIMIT_US - 0.5])
        (got,) = histogram.percentiles(50)
        assert value <= got <= value + max(value / 64, 1)


def test_beyond_the_limit() -> None:
    """Counted, in order, and the longest is still known."""
    histogram = record_all([1000.0, 2.0 * LIMIT_US, 3.0 * LIMIT_US])
    assert histogram.percentiles(1, 100) == [1008.0, 3.0 * LIMIT_US]
    assert histogram.counts_up_to([LIMIT_US, math.inf]) == [1, 3]


def test_nothing_recorded() -> None:
    """Zeros, and no error."""
    histogram = Histogram()
    assert histogram.percentiles(50, 99) == [0.0, 0.0]
    assert histogram.percentiles() == []
    assert histogram.counts_up_to([1.0, math.inf]) == [0, 0]
    assert histogram.max_us == 0.0


def test_cleared() -> None:
    """As new."""
    histogram = record_all([5.0, 50_000.0])
    histogram.clear()
    assert (histogram.count, histogram.sum_us, histogram.max_us) == (0, 0.0, 0.0)
    histogram.record(7.0)
    assert histogram.percentiles(100) == [7.0]


def test_cleared_while_it_is_read() -> None:
    """A reader that has the counts but finds the maximum gone stays within the bucket."""
    histogram = record_all([50_000.0])
    histogram.max_us = 0.0
    (got,) = histogram.percentiles(99)
    assert 50_000 * 63 / 64 <= got <= 50_000 * 65 / 64


def test_memory_does_not_grow() -> None:
    """A million values lie in the same array as none."""
    histogram = Histogram()
    view = histogram._view
    for value in range(10_000):
        histogram.record(value * 10.0)
    assert histogram._view is view
    assert view.nbytes < 11_000
