"""The calm of the output."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.engines.estimator import Smoother

SECOND = 1_000_000_000
FIRST = [1.0, 0.0, 0.0]
LATER = [0.0, 1.0, 0.0]

probabilities = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(
    lambda values: [value / sum(values) for value in values]
)


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), probabilities), min_size=1, max_size=20))
def test_stays_a_distribution(steps: list[tuple[int, list[float]]]) -> None:
    """Whatever comes when: sums to 1, nothing below 0, between the smallest and largest given."""
    smoother = Smoother(0.5)
    t_ns = 0
    given_so_far = []
    for elapsed, values in steps:
        t_ns += elapsed
        given_so_far.append(values)
        mean = np.array(smoother.update(t_ns, values))
        assert mean.sum() == pytest.approx(1)
        assert (mean >= np.min(given_so_far, axis=0) - 1e-12).all()
        assert (mean <= np.max(given_so_far, axis=0) + 1e-12).all()


@pytest.mark.parametrize("fps", [5, 30, 240])
def test_time_constant_holds_at_any_rate(fps: int) -> None:
    """After one time constant 1/e of the old is left, however often it was updated."""
    smoother = Smoother(1.0)
    smoother.update(0, FIRST)
    for n in range(1, fps + 1):
        mean = smoother.update(n * SECOND // fps, LATER)
    assert mean[0] == pytest.approx(math.exp(-1), rel=1e-6)


def test_zero_passes_everything_through() -> None:
    """And what it gives is the caller's own: a later change of the input does not reach it."""
    smoother = Smoother(0.0)
    smoother.update(0, FIRST)
    values = LATER.copy()
    mean = smoother.update(1, values)
    values[:] = [0.0] * 3
    assert mean == LATER


def test_long_pause_forgets() -> None:
    """After more than two seconds without anybody the next one begins anew; before, not."""
    smoother = Smoother(10.0)
    smoother.update(0, FIRST)
    assert smoother.update(2 * SECOND, LATER)[0] > 0.8
    assert smoother.update(2 * SECOND + 2 * SECOND + 1, LATER) == LATER


def test_time_that_goes_back_changes_nothing() -> None:
    """An estimate dated before the last one must not blow the mean up."""
    smoother = Smoother(0.5)
    smoother.update(SECOND, FIRST)
    assert smoother.update(0, LATER) == FIRST
