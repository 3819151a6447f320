"""Which frames a level accepts, and when estimates are made from audio alone: never between the
frames of a working camera, soon after it has failed. Live and in a replay, on a fake clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from emotion_edge.runtime import replay
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import AudioChunk, VideoFrame
from emotion_edge.runtime.perception.pacing import (
    AUDIO_ONLY_PERIOD_NS,
    DELIVERY_NS,
    MAX_LATE_NS,
    MAX_WAIT_NS,
    EstimateTimer,
    FrameRateLimiter,
    find_shown,
)
from emotion_edge.runtime.replay import run_replay

if TYPE_CHECKING:
    from ..conftest import Collector

SECOND = 1_000_000_000
RATE = 16_000
START_NS = 100 * SECOND
RATES = (1, 2, 3, 4, 5, 30)
LATENCY_NS = 20_000_000
"""From a frame's capture to its delivery."""
LATE_NS = LATENCY_NS - DELIVERY_NS
"""What of it delays the estimates without a new frame."""
FACE = draw_face(0.5)


# The frame rate of a level


def test_every_frame_is_accepted_until_a_rate_is_set() -> None:
    """And again when it is reset to 0."""
    rate_limiter = FrameRateLimiter()
    assert all(rate_limiter.accepts(n * SECOND // 30) for n in range(30))
    rate_limiter.set_rate(10)
    accepted = sum(rate_limiter.accepts(n * SECOND // 30) for n in range(30, 60))
    assert accepted in (10, 11)
    assert rate_limiter.skipped == 30 - accepted
    rate_limiter.set_rate(0)
    assert all(rate_limiter.accepts(n * SECOND // 30) for n in range(60, 90))


@pytest.mark.parametrize(("camera_fps", "wanted_fps", "of_300"), [(30, 15, 150), (30, 8, 80)])
def test_jittering_timemake_times(camera_fps: int, wanted_fps: int, of_300: int) -> None:
    """2 ms to either side hardly change the count."""
    jitter = random.Random(0)
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(wanted_fps)
    times = [n * SECOND // camera_fps + jitter.randint(-2_000_000, 2_000_000) for n in range(300)]
    assert abs(sum(map(rate_limiter.accepts, times)) - of_300) <= 5


def test_a_slow_camera_loses_nothing() -> None:
    """It gives fewer frames than the level wants."""
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(15)
    assert all(rate_limiter.accepts(n * SECOND // 10) for n in range(50))


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_jumping_timemake_times(jump_s: int) -> None:
    """A camera that comes back with another clock is used at once."""
    rate_limiter = FrameRateLimiter()
    rate_limiter.set_rate(8)
    start_ns = 10_000 * SECOND
    for n in range(30):
        rate_limiter.accepts(start_ns + n * SECOND // 30)
    accepted = [
        rate_limiter.accepts(start_ns + jump_s * SECOND + n * SECOND // 30) for n in range(30)
    ]
    assert any(accepted[:5])
    assert 7 <= sum(accepted) <= 10


# Audio alone


def make_times(fps: float, seconds: float, jitter: float = 0.0) -> list[int]:
    """Capture times of a camera that begins after a tenth of a second."""
    noise = random.Random(2)
    return [
        START_NS + round((0.1 + (n + noise.uniform(-jitter, jitter)) / fps) * SECOND)
        for n in range(1, round(seconds * fps) + 1)
    ]


def make_frame(t_ns: int, index: int = 0) -> VideoFrame:
    return VideoFrame(t_ns, index, FACE)


class FakeFrames:
    """A `FrameRing` that moves the clock to the next frame or to the end of the wait."""

    def __init__(
        self, clock: FakeClock, times_ns: Sequence[int], end_ns: int, delays_ns: Sequence[int]
    ) -> None:
        self._clock = clock
        self._times_ns = list(times_ns)
        self._delays_ns = list(delays_ns)
        self._end_ns = end_ns
        self.newest = lambda: None

    @property
    def ended(self) -> bool:
        return self._clock.now_ns() >= self._end_ns

    def take(self, timeout_s: float) -> tuple[VideoFrame | None, int]:
        now_ns = self._clock.now_ns()
        until_ns = now_ns + round(timeout_s * 1e9)
        if self._times_ns and self._times_ns[0] + self._delays_ns[0] <= until_ns:
            t_ns, delay_ns = self._times_ns.pop(0), self._delays_ns.pop(0)
            self._clock.advance(max(0, t_ns + delay_ns - now_ns))
            return make_frame(t_ns), 0
        self._clock.advance(max(1, min(until_ns, self._end_ns) - now_ns))
        return None, 0


@pytest.fixture
def play_live(configure: Callable[..., Config]) -> Callable[..., list[tuple[int, bool]]]:
    """A function (capture times, end) -> of each estimate of a live run with a microphone: its
    time, and whether it has a frame. The audio is late by `audio_late_ns`, in chunks of 10 ms."""

    def play(
        times_ns: Sequence[int],
        end_ns: int,
        delays_ns: Sequence[int] | None = None,
        audio_late_ns: int = 0,
    ) -> list[tuple[int, bool]]:
        clock = FakeClock(START_NS)
        made: list[tuple[int, bool]] = []
        sync = SimpleNamespace(
            first_audio_ns=lambda: START_NS,
            fresh_audio_ns=lambda now_ns: (now_ns - audio_late_ns) // 10_000_000 * 10_000_000,
            window=lambda t_ns, frame, *_: SimpleNamespace(t_ns=t_ns, frame=frame),
        )
        runtime: Any = SimpleNamespace(
            synchroniser=sync,
            dropped_frames=0,
            pipeline=SimpleNamespace(is_voice_due=lambda _: False),
            face_tracker=SimpleNamespace(faces_for=lambda _: ()),
            process=lambda window, *_: made.append((window.t_ns, window.frame is not None)),
        )
        monitor: Any = SimpleNamespace(progress=lambda: None)
        run: Any = LiveRun(configure("camera"), [])
        delays_ns = delays_ns or [LATENCY_NS] * len(times_ns)
        run._clock, run._frames = clock, FakeFrames(clock, times_ns, end_ns, delays_ns)
        search: Any = SimpleNamespace(refresh=lambda _: None)
        run._loop(runtime, search, monitor, lambda: False, None)
        return made

    return play


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("fps", RATES)
def test_no_estimate_of_audio_alone_between_frames(
    play_live: Callable[..., list[tuple[int, bool]]], fps: float, jitter: float
) -> None:
    """Every estimate has a frame, from the first frame on."""
    times_ns = make_times(fps, 10, jitter)
    made = play_live(times_ns, times_ns[-1] + LATENCY_NS + 1)
    assert [(t_ns, True) for t_ns in times_ns] == [e for e in made if e[0] >= times_ns[0]]


@pytest.mark.parametrize("fps", RATES)
def test_camera_that_fails(play_live: Callable[..., list[tuple[int, bool]]], fps: float) -> None:
    """Audio continues alone after one and a half frame periods, at least a quarter of a second,
    then four times a second."""
    times_ns = make_times(fps, 5)
    failed_ns = times_ns[-1]
    made = play_live(times_ns, failed_ns + 5 * SECOND)
    alone_ns = [t_ns - failed_ns for t_ns, has_frame in made if t_ns > failed_ns and not has_frame]
    late_ns = max(AUDIO_ONLY_PERIOD_NS, round(1.5 * SECOND / fps))
    assert alone_ns[0] == pytest.approx(late_ns + LATE_NS, abs=1000)
    assert alone_ns[0] <= MAX_WAIT_NS + LATE_NS
    assert np.diff(alone_ns) == pytest.approx(AUDIO_ONLY_PERIOD_NS, abs=0)
    assert len(alone_ns) >= 4 * (5 - late_ns / SECOND) - 1


@pytest.mark.parametrize("count", [0, 1])
def test_camera_with_one_frame_or_none(
    play_live: Callable[..., list[tuple[int, bool]]], count: int
) -> None:
    """Without a frame audio starts at once. After a single one the wait is bounded."""
    times_ns = make_times(30, 1)[:count]
    made = play_live(times_ns, START_NS + 5 * SECOND)
    waits_ns = times_ns[0] + LATE_NS + MAX_WAIT_NS if count else START_NS + AUDIO_ONLY_PERIOD_NS
    assert next(t_ns for t_ns, has_frame in made if not has_frame) == waits_ns


# Frames late, lost, and out of step with the audio


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=strategies.lists(
        strategies.tuples(
            strategies.integers(1, 3 * SECOND),  # since the frame before
            strategies.sampled_from([0, LATENCY_NS, 300_000_000, 900_000_000, 5 * SECOND]),
        ),
        max_size=25,
    ),
    audio_late_ns=strategies.sampled_from([0, 35_000_000, 400_000_000, 2 * SECOND]),
)
def test_times_increase_strictly(
    play_live: Callable[..., list[tuple[int, bool]]],
    frames: list[tuple[int, int]],
    audio_late_ns: int,
) -> None:
    """However late the frames are and however many are missing. Each estimate has the time of its
    frame, or a later one by which that frame was late."""
    times_ns = [START_NS + since_ns for since_ns in accumulate(gap_ns for gap_ns, _ in frames)]
    arrivals_ns = list(
        accumulate((t_ns + late for t_ns, (_, late) in zip(times_ns, frames, strict=True)), max)
    )
    delays_ns = [a_ns - t_ns for a_ns, t_ns in zip(arrivals_ns, times_ns, strict=True)]
    end_ns = max(arrivals_ns, default=START_NS) + 2 * SECOND
    made = play_live(times_ns, end_ns, delays_ns, audio_late_ns)
    assert all(after > before for (before, _), (after, _) in itertools.pairwise(made))
    with_frame = [t_ns for t_ns, has_frame in made if has_frame]
    used = iter(times_ns)
    for t_ns in with_frame:
        assert any(t_ns - MAX_LATE_NS - 25 <= frame_ns <= t_ns for frame_ns in used)


def test_late_frame_is_used_after_the_estimate_before_it() -> None:
    """It is the newest face. A frame that is too old is not used."""
    timer = EstimateTimer()
    timer.note_audio(0)
    assert timer.time_turn(SECOND + DELIVERY_NS, SECOND) == SECOND
    assert timer.time_frame(SECOND * 9 // 10, 2 * SECOND) == SECOND + 1
    assert timer.time_frame(SECOND * 11 // 10, 2 * SECOND) == SECOND * 11 // 10
    assert timer.time_frame(SECOND // 20, 2 * SECOND) is None


def test_late_frames_keep_audio_from_going_on_alone(
    play_live: Callable[..., list[tuple[int, bool]]],
) -> None:
    """A camera whose frames all come 0.4 s late works."""
    times_ns = make_times(10, 5)
    late_ns = 400_000_000
    made = play_live(times_ns, times_ns[-1] + late_ns + 1, [late_ns] * len(times_ns))
    assert [t_ns for t_ns, has_frame in made if has_frame][5:] == times_ns[5:]
    assert all(has_frame for t_ns, has_frame in made if t_ns >= times_ns[5])


def test_turns_that_were_missed_are_skipped() -> None:
    """After a stall of the main thread the next estimate is the one of now."""
    timer = EstimateTimer()
    timer.note_audio(0)
    assert timer.time_turn(SECOND * 101 // 100 + DELIVERY_NS, 2 * SECOND) == SECOND
    assert timer.due_ns == SECOND * 5 // 4


def test_no_estimate_without_new_audio() -> None:
    """A turn without audio since the last estimate gives none; the end of the audio gives one."""
    timer = EstimateTimer()
    timer.note_audio(0)
    times = [
        timer.time_turn(n * SECOND // 4, min(SECOND * 3 // 5, n * SECOND)) for n in range(1, 6)
    ]
    assert times == [SECOND // 4, SECOND // 2, SECOND * 3 // 5, None, None]
    assert timer.time_turn(SECOND * 7 // 4, None) is None


@pytest.mark.parametrize(
    ("shown_s", "wait_s"), [(1 / 30, 0.25), (0.5, 0.75), (1.0, 1.5), (1.5, 0.25), (10.0, 0.25)]
)
def test_first_frame_of_a_file_has_a_period(shown_s: float, wait_s: float) -> None:
    """The time that it is shown. While a still image is shown, estimates go on at once."""
    timer = EstimateTimer()
    timer.time_frame(0, 0, round(shown_s * SECOND))
    assert timer.due_ns == pytest.approx(wait_s * SECOND, abs=2)


@pytest.mark.parametrize(
    ("shown_ns", "is_shown"), [(0, False), (SECOND, False), (SECOND + 1, True)]
)
def test_frame_that_is_shown(shown_ns: int, is_shown: bool) -> None:
    """Up to the end that the source states; a camera states none."""
    frame = VideoFrame(SECOND, 0, FACE, shown_ns=shown_ns)
    assert (find_shown(frame, 2 * SECOND) is frame) == is_shown
    assert find_shown(None, 2 * SECOND) is None


def test_one_frame_lost_is_not_a_slower_camera() -> None:
    """Nor is an hour without camera. Two slow frames in a row are."""
    timer = EstimateTimer()
    now_ns = 0

    def wait_after(gap_s: float) -> float:
        nonlocal now_ns
        now_ns += round(gap_s * SECOND)
        timer.time_frame(now_ns, now_ns)
        return (timer.due_ns - now_ns) / SECOND

    assert wait_after(0) == 2.0
    for _ in range(10):
        waits_s = wait_after(1 / 30)
    assert waits_s == 0.25
    assert wait_after(1.0) == 0.25
    assert wait_after(3600) == 0.25
    assert wait_after(0.5) == pytest.approx(0.75)
    assert wait_after(0.5) == pytest.approx(0.75)
    for _ in range(8):
        waits_s = wait_after(1 / 30)
    assert waits_s == 0.25


class ScriptedMedia:
    """Media with the demo's voice and frames at given times."""

    sample_rate_hz = RATE
    has_video = has_audio = True
    copies_per_frame = 0

    def __init__(self, times_ns: Sequence[int], seconds: float) -> None:
        self._times_ns = times_ns
        self._seconds = seconds

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for index, t_ns in enumerate(self._times_ns):
            yield make_frame(t_ns, index)

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        voice = synthesize_speech(0, round(self._seconds * RATE))
        for first in range(0, len(voice), 160):
            yield AudioChunk(first * SECOND // RATE, first, voice[first : first + 160])


@pytest.fixture
def play_video(
    configure: Callable[..., Config], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[int]]:
    """A function (frame times, seconds) -> the times of all estimates of a replay."""

    def play(times_ns: Sequence[int], seconds: float) -> list[int]:
        monkeypatch.setattr(replay, "open_media", lambda _: ScriptedMedia(times_ns, seconds))
        run_replay(configure("clip.mp4"), [collector])
        return [e.t_ns for e in collector.estimates]

    return play


@pytest.mark.parametrize("fps", RATES)
def test_replay_of_a_slow_video(play_video: Callable[..., list[int]], fps: int) -> None:
    """One estimate for each frame; then audio goes on alone up to its end, as in a live run."""
    times_ns = [n * SECOND // fps for n in range(4 * fps)]
    late_ns = times_ns[-1] + max(AUDIO_ONLY_PERIOD_NS, round(1.5 * SECOND / fps))
    alone_ns = [*range(late_ns, 6 * SECOND + 1, AUDIO_ONLY_PERIOD_NS)]
    assert play_video(times_ns, 6) == pytest.approx([*times_ns, *alone_ns], abs=2)


def test_replay_of_a_video_that_pauses(play_video: Callable[..., list[int]]) -> None:
    """Audio continues until the next frame, and after the last one until the audio ends."""
    times_ns = [n * SECOND // 10 for n in range(20)]
    pause_ns = [times_ns[-1] + n * SECOND // 4 for n in range(1, 5)]
    end_ns = [3 * SECOND + n * SECOND // 4 for n in range(5)]
    assert play_video([*times_ns, 3 * SECOND], 4) == [*times_ns, *pause_ns, *end_ns]
