"""Timestamps of another clock on ours, and the frame numbers that follow from them."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

from emotion_edge.runtime.capture.timestamps import (
    CaptureClock,
    DriverTimestamps,
    FrameCounter,
    StreamClock,
)

MS = 1_000_000
SECOND = 1000 * MS
PERIOD = 33_333_333
ORIGIN = 7_000 * SECOND


# DriverTimestamps


@pytest.mark.parametrize("age_ms", [100_000, -1_700_000_000_000, 1500, -20])
def test_impossible_driver_time_is_replaced(caplog: pytest.LogCaptureFixture, age_ms: int) -> None:
    """Zero, the wall clock, too old, in the future: the time of arrival, and one warning."""
    timestamps = DriverTimestamps("/dev/video0")
    for now_ns in (100_000 * MS, 100_000 * MS + PERIOD):
        assert timestamps.capture_ns(now_ns - age_ms * MS, now_ns) == now_ns
    assert timestamps.clock_domain == "time of arrival"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_old_driver_time_is_right_after_a_good_one(caplog: pytest.LogCaptureFixture) -> None:
    """The clock is known to be ours: the reader was late, and the frame is old."""
    timestamps, now_ns = DriverTimestamps("/dev/video0"), 100_000 * MS
    assert timestamps.capture_ns(now_ns - 8 * MS, now_ns) == now_ns - 8 * MS
    assert timestamps.capture_ns(now_ns, now_ns + 15 * SECOND) == now_ns
    assert timestamps.clock_domain == "v4l2 monotonic"
    assert not caplog.records


def test_constant_driver_time_is_replaced() -> None:
    timestamps, now_ns = DriverTimestamps("/dev/video0"), 100_000 * MS
    assert timestamps.capture_ns(now_ns, now_ns) == now_ns
    assert timestamps.capture_ns(now_ns, now_ns + PERIOD) == now_ns + PERIOD


def test_one_impossible_time_does_not_spoil_the_next() -> None:
    """Delivery takes longer than a frame period, and one timestamp steps back."""
    timestamps, delay_ns = DriverTimestamps("/dev/video0"), PERIOD + 7 * MS
    times_ns = [SECOND + n * PERIOD for n in range(20)]
    driver_ns = [*times_ns[:10], times_ns[9] - PERIOD, *times_ns[11:]]
    pairs = zip(driver_ns, times_ns, strict=True)
    assert [timestamps.capture_ns(stamp, t_ns + delay_ns) for stamp, t_ns in pairs] == times_ns


# CaptureClock


def replay(clock: CaptureClock, delays_ms: list[float], drift_ppm: float = 0.0) -> list[float]:
    """Capture a frame every 33 ms, return it after these delays. Gives each time's error in ms."""
    late = []
    for number, delay_ms in enumerate(delays_ms):
        captured_ns = number * PERIOD
        timestamp_ns = round(captured_ns * (1 + drift_ppm * 1e-6))
        returned_ns = ORIGIN + captured_ns + round(delay_ms * MS)
        late.append((clock.to_monotonic(timestamp_ns, returned_ns) - ORIGIN - captured_ns) / MS)
    return late


def test_shortest_delay_is_what_remains() -> None:
    """Any delay beyond the shortest one is removed from a frame's time."""
    assert replay(CaptureClock(), [3, 9, 3, 25, 4]) == [3, 3, 3, 3, 3]


def test_single_late_frame_does_not_move_the_clock() -> None:
    """Half a second of delay at the start of a window, in the middle or at its end."""
    for position in (0, 1, 149, 150, 151, 299, 300, 301):
        delays = [5.0] * 900
        delays[position] = 500.0
        late = replay(CaptureClock(), delays)
        assert max(late[max(position, 1) + 15 :]) < 5.001
        assert position == 0 or late[position] < 5.001


def test_shorter_delay_is_applied_at_once() -> None:
    """But no frame gets a time before the previous frame's."""
    late = replay(CaptureClock(), [40, 3, 3, 3])
    assert late[0] == 40
    assert late[1] == pytest.approx(40 - PERIOD / MS, abs=0.001)
    assert late[2:] == [3, 3]


@pytest.mark.parametrize("drift_ppm", [-100.0, -20.0, 20.0, 100.0])
def test_drift_is_followed(drift_ppm: float) -> None:
    """100 ppm for ten minutes are 60 ms; the error stays within the 1 ms of one window."""
    rng = np.random.default_rng(5)
    delays = (4 + rng.exponential(2.0, 18_000)).tolist()
    late = replay(CaptureClock(), delays, drift_ppm)
    assert 2.9 < min(late[30:]) <= max(late[30:]) < 5.2


def test_early_timestamp_is_forgotten() -> None:
    """A timestamp that is one second ahead affects one window, not the rest."""
    clock = CaptureClock()
    replay(clock, [4.0] * 10)
    clock.to_monotonic(10 * PERIOD + SECOND, ORIGIN + 10 * PERIOD + 4 * MS)
    times = [
        clock.to_monotonic(n * PERIOD, ORIGIN + n * PERIOD + 4 * MS) - ORIGIN - n * PERIOD
        for n in range(11, 330)
    ]
    assert times[0] < 4 * MS
    assert times[-1] == 4 * MS


def test_long_pause_resets_the_clock() -> None:
    """After an hour without frames the earlier minimum is void."""
    clock = CaptureClock()
    replay(clock, [4.0] * 10)
    hour = 3600 * SECOND
    assert clock.to_monotonic(hour, ORIGIN + hour + 300 * MS) == ORIGIN + hour + 300 * MS


def test_times_only_go_up_and_are_not_ahead() -> None:
    """With random, constant or missing timestamps each time is later than the previous one and not
    later than the arrival."""
    rng = np.random.default_rng(6)
    clock, last_ns, now_ns = CaptureClock(), -1, ORIGIN
    for _ in range(2000):
        now_ns += int(rng.integers(1, 50 * MS))
        timestamp_ns = int(rng.integers(0, 10 * SECOND))
        t_ns = (
            clock.to_monotonic(timestamp_ns, now_ns)
            if rng.random() < 0.8
            else clock.estimate_capture(now_ns)
        )
        assert last_ns < t_ns <= now_ns
        last_ns = t_ns


def test_arrival_is_the_time_without_a_timestamp() -> None:
    """It does not change the offset of the clocks."""
    clock = CaptureClock()
    replay(clock, [4.0] * 3)
    assert clock.estimate_capture(ORIGIN + 100 * MS) == ORIGIN + 100 * MS
    assert clock.to_monotonic(200 * MS, ORIGIN + 290 * MS) == ORIGIN + 204 * MS


# FrameCounter


def number_all(timestamps_ns: list[int | None], period_ns: float = PERIOD) -> list[int]:
    count = FrameCounter(period_ns)
    return [count.number(timestamp) for timestamp in timestamps_ns]


def test_gap_in_time_is_a_gap_in_numbers() -> None:
    """Two frames are missing, then one, then twenty, twice."""
    present = [0, 1, 2, 5, 6, 8, 29, 50, 51, 52]
    assert number_all([n * PERIOD for n in present]) == present


def test_first_timestamp_may_be_arbitrary() -> None:
    """Numbers begin at 0 whenever the pipeline started."""
    assert number_all([900 * SECOND, 900 * SECOND + PERIOD]) == [0, 1]


def test_jitter_invents_no_loss() -> None:
    """Timestamps with a jitter of a quarter of a period for ten minutes."""
    rng = np.random.default_rng(7)
    jitter = rng.uniform(-0.12, 0.12, 18_000)
    numbers = number_all([round((n + jitter[n]) * PERIOD) for n in range(18_000)])
    assert numbers == list(range(18_000))


def test_frame_without_timestamp_counts_as_one() -> None:
    """It is not a loss, but a loss beside it is counted."""
    assert number_all([PERIOD, 2 * PERIOD, None, 4 * PERIOD]) == [0, 1, 2, 3]
    assert number_all([PERIOD, 2 * PERIOD, None, 7 * PERIOD]) == [0, 1, 2, 6]
    assert number_all([None, None, 5 * PERIOD, 6 * PERIOD]) == [0, 1, 2, 3]


def test_new_rate_is_learned() -> None:
    """In the dark a camera halves its rate: after five frames nothing counts as lost."""
    bright = [n * PERIOD for n in range(60)]
    dark = [bright[-1] + n * 2 * PERIOD for n in range(1, 200)]
    numbers = number_all([*bright, *dark])
    steps = np.diff(numbers).tolist()
    assert steps == [1] * 59 + [2] * 5 + [1] * 194


# StreamClock


def test_stream_has_its_own_cadence() -> None:
    """Jitter of the arrival leaves the times alone, once a frame came fast."""
    clock, rng = StreamClock(), np.random.default_rng(3)
    times = []
    for n in range(300):
        jitter_ns = int(rng.integers(0, 60 * MS)) if n else 0
        times.append(clock.time_frame(n * PERIOD, ORIGIN + n * PERIOD + jitter_ns))
    assert set(np.diff(times)) == {PERIOD}
    assert times[0] == ORIGIN


@pytest.mark.parametrize(("later_ms", "wanted_ms"), [(120, 120), (-120, 0), (5000, 500)])
def test_tracks_of_a_stream_share_a_clock(later_ms: int, wanted_ms: int) -> None:
    """That of the slower track: then both come together. Pictures wait for half a second at most.
    `later_ms`: how much later than the picture of the same instant the sound arrives."""
    clock = StreamClock()
    for n in range(100):
        clock.time_frame(n * PERIOD, ORIGIN + n * PERIOD)
        sound_ns = clock.time_chunk(
            n * PERIOD - 10 * MS, 10 * MS, ORIGIN + n * PERIOD + later_ms * MS
        )
        frame_ns = clock.time_frame(n * PERIOD + 1, ORIGIN + n * PERIOD + 1)
    assert frame_ns - sound_ns == 10 * MS + 1
    assert frame_ns == ORIGIN + 99 * PERIOD + 1 + wanted_ms * MS


def test_burst_at_the_start_of_a_stream() -> None:
    """What the server had kept arrives at once: times go forward, and end at the newest."""
    clock = StreamClock()
    times = [clock.time_frame(n * PERIOD, ORIGIN + n) for n in range(60)]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert times[-1] - (ORIGIN + 59) < 60
    assert clock.time_frame(60 * PERIOD, ORIGIN + PERIOD) - times[-1] == pytest.approx(
        PERIOD, abs=99
    )
