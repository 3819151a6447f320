"""Which pictures are looked at."""

from __future__ import annotations

import random

import pytest

from emotion_edge.runtime.perception.pacing import FrameRateLimiter

SECOND = 1_000_000_000


def test_every_frame_is_accepted_until_a_rate_is_set() -> None:
    """And again when it is taken back."""
    rate_limiter = FrameRateLimiter()
    assert all(rate_limiter.accepts(n * SECOND // 30) for n in range(30))
    rate_limiter.set_rate(10)
    seen = sum(rate_limiter.accepts(n * SECOND // 30) for n in range(30, 60))
    assert seen in (10, 11)
    assert rate_limiter.skipped == 30 - seen
    rate_limiter.set_rate(0)
    assert all(rate_limiter.accepts(n * SECOND // 30) for n in range(60, 90))


@pytest.mark.parametrize(("camera_fps", "wanted_fps", "of_300"), [(30, 15, 150), (30, 8, 80)])
def test_jittering_timestamps(camera_fps: int, wanted_fps: int, of_300: int) -> None:
    """2 ms to either side change the count by next to nothing."""
    waver = random.Random(0)
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(wanted_fps)
    times = [n * SECOND // camera_fps + waver.randint(-2_000_000, 2_000_000) for n in range(300)]
    assert abs(sum(map(rate_limiter.accepts, times)) - of_300) <= 5


def test_a_slow_camera_loses_nothing() -> None:
    """It gives fewer pictures than are wanted."""
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(15)
    assert all(rate_limiter.accepts(n * SECOND // 10) for n in range(50))


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_jumping_timestamps(jump_s: int) -> None:
    """A camera that is back with another clock is looked at at once."""
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(8)
    start_ns = 10_000 * SECOND
    for n in range(30):
        rate_limiter.accepts(start_ns + n * SECOND // 30)
    seen = [rate_limiter.accepts(start_ns + jump_s * SECOND + n * SECOND // 30) for n in range(30)]
    assert any(seen[:5])
    assert 7 <= sum(seen) <= 10
