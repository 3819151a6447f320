"""The mean over time of the class probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.engines.probabilities import Smoother

SECOND = 1_000_000_000
FIRST = [1.0, 0.0, 0.0]
LATER = [0.0, 1.0, 0.0]

probabilities = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(
    lambda values: [value / sum(values) for value in values]
)


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), probabilities), min_size=1, max_size=20))
def test_stays_a_distribution(steps: list[tuple[int, list[float]]]) -> None:
    """It sums to 1 and stays between the smallest and the largest input, at any times."""
    smoother = Smoother(0.5)
    t_ns = 0
    inputs = []
    for elapsed, values in steps:
        t_ns += elapsed
        inputs.append(values)
        mean = np.array(smoother.update(t_ns, values))
        assert mean.sum() == pytest.approx(1)
        assert (mean >= np.min(inputs, axis=0) - 1e-12).all()
        assert (mean <= np.max(inputs, axis=0) + 1e-12).all()


@pytest.mark.parametrize("fps", [5, 30, 240])
def test_time_constant_holds_at_any_rate(fps: int) -> None:
    """After one time constant 1/e of the old value is left, at any update rate."""
    smoother = Smoother(1.0)
    smoother.update(0, FIRST)
    for n in range(1, fps + 1):
        mean = smoother.update(n * SECOND // fps, LATER)
    assert mean[0] == pytest.approx(math.exp(-1), rel=1e-6)


def test_zero_switches_it_off() -> None:
    """The output is a copy: a later change of the input does not reach it."""
    smoother = Smoother(0.0)
    smoother.update(0, FIRST)
    values = LATER.copy()
    mean = smoother.update(1, values)
    values[:] = [0.0] * 3
    assert mean == LATER


def test_long_pause_resets() -> None:
    """After more than two seconds without an input the mean starts again."""
    smoother = Smoother(10.0)
    smoother.update(0, FIRST)
    assert smoother.update(2 * SECOND, LATER)[0] > 0.8
    assert smoother.update(2 * SECOND + 2 * SECOND + 1, LATER) == LATER


def test_time_that_goes_back_changes_nothing() -> None:
    """An earlier time leaves the mean as it is."""
    smoother = Smoother(0.5)
    smoother.update(SECOND, FIRST)
    assert smoother.update(0, LATER) == FIRST
