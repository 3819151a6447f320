"""Which pictures are looked at."""

from __future__ import annotations

import random

import pytest

from emotion_edge.runtime.pacing import Pacer

SECOND = 1_000_000_000


def test_every_picture_until_a_rate_is_given() -> None:
    """And again when it is taken back."""
    pacer = Pacer()
    assert all(pacer.wants(n * SECOND // 30) for n in range(30))
    pacer.use_rate(10)
    seen = sum(pacer.wants(n * SECOND // 30) for n in range(30, 60))
    assert seen in (10, 11)
    assert pacer.passed_over == 30 - seen
    pacer.use_rate(0)
    assert all(pacer.wants(n * SECOND // 30) for n in range(60, 90))


@pytest.mark.parametrize(("camera_fps", "wanted_fps", "of_300"), [(30, 15, 150), (30, 8, 80)])
def test_stamps_that_waver(camera_fps: int, wanted_fps: int, of_300: int) -> None:
    """2 ms to either side change the count by next to nothing."""
    waver = random.Random(0)
    pacer = Pacer()
    pacer.use_rate(wanted_fps)
    times = [n * SECOND // camera_fps + waver.randint(-2_000_000, 2_000_000) for n in range(300)]
    assert abs(sum(map(pacer.wants, times)) - of_300) <= 5


def test_a_slow_camera_loses_nothing() -> None:
    """It gives fewer pictures than are wanted."""
    pacer = Pacer()
    pacer.use_rate(15)
    assert all(pacer.wants(n * SECOND // 10) for n in range(50))


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_stamps_that_jump(jump_s: int) -> None:
    """A camera that is back with another clock is looked at at once."""
    pacer = Pacer()
    pacer.use_rate(8)
    start_ns = 10_000 * SECOND
    for n in range(30):
        pacer.wants(start_ns + n * SECOND // 30)
    seen = [pacer.wants(start_ns + jump_s * SECOND + n * SECOND // 30) for n in range(30)]
    assert any(seen[:5])
    assert 7 <= sum(seen) <= 10
