"""When estimates are made of audio alone: never between the frames of a camera that works, soon
after it has died. Live and in a replay, on time that the test makes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emotion_edge.runtime import replay
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import AudioChunk, VideoFrame
from emotion_edge.runtime.perception.pacing import AUDIO_ONLY_PERIOD_NS, MAX_WAIT_NS, AudioOnlyTimer
from emotion_edge.runtime.perception.sync import Synchroniser
from emotion_edge.runtime.replay import run_replay

if TYPE_CHECKING:
    from ..conftest import Collector

SECOND = 1_000_000_000
RATE = 16_000
START_NS = 100 * SECOND
RATES = (1, 2, 3, 4, 5, 30)
LATENCY_NS = 20_000_000
"""From a frame's capture until it is there."""
FACE = draw_face(0.5)


def stamps(fps: float, seconds: float, jitter: float = 0.0) -> list[int]:
    """Capture times of a camera that begins after a tenth of a second."""
    waver = random.Random(2)
    return [
        START_NS + round((0.1 + (n + waver.uniform(-jitter, jitter)) / fps) * SECOND)
        for n in range(1, round(seconds * fps) + 1)
    ]


def make_frame(t_ns: int, index: int = 0) -> VideoFrame:
    return VideoFrame(t_ns, index, FACE)


class FakeFrames:
    """A `FrameRing` that moves the clock to where the next frame, or the end of waiting, is."""

    def __init__(self, clock: FakeClock, times_ns: Sequence[int], end_ns: int) -> None:
        self._clock = clock
        self._times_ns = list(times_ns)
        self._end_ns = end_ns

    @property
    def ended(self) -> bool:
        return self._clock.now_ns() >= self._end_ns

    def take(self, timeout_s: float) -> tuple[VideoFrame | None, int]:
        now_ns = self._clock.now_ns()
        until_ns = now_ns + round(timeout_s * 1e9)
        if self._times_ns and self._times_ns[0] + LATENCY_NS <= until_ns:
            t_ns = self._times_ns.pop(0)
            self._clock.advance(max(0, t_ns + LATENCY_NS - now_ns))
            return make_frame(t_ns), 0
        self._clock.advance(max(1, min(until_ns, self._end_ns) - now_ns))
        return None, 0


@pytest.fixture
def play_live(configure: Callable[..., Config]) -> Callable[..., list[tuple[int, bool]]]:
    """A function (capture times, end) -> of each estimate of a live run with a microphone: when it
    was made, and whether a frame led to it."""

    def play(times_ns: Sequence[int], end_ns: int) -> list[tuple[int, bool]]:
        clock = FakeClock(START_NS)
        made: list[tuple[int, bool]] = []
        sync = SimpleNamespace(
            newest_audio_ns=clock.now_ns,
            MAX_SKEW_NS=Synchroniser.MAX_SKEW_NS,
            window=lambda t_ns, frame, *_: SimpleNamespace(t_ns=t_ns, frame=frame),
        )
        runtime: Any = SimpleNamespace(
            synchroniser=sync,
            pipeline=SimpleNamespace(is_voice_due=lambda _: False),
            face_tracker=SimpleNamespace(box_for=lambda _: None),
            process=lambda window, *_: made.append((clock.now_ns(), window.frame is not None)),
        )
        monitor: Any = SimpleNamespace(progress=lambda: None)
        run: Any = LiveRun(configure("camera"), [])
        run._clock, run._frames = clock, FakeFrames(clock, times_ns, end_ns)
        run._loop(runtime, monitor, lambda: False, None)
        return made

    return play


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("fps", RATES)
def test_no_estimate_of_audio_alone_between_frames(
    play_live: Callable[..., list[tuple[int, bool]]], fps: float, jitter: float
) -> None:
    """Every estimate has a frame, from the first frame on."""
    times_ns = stamps(fps, 10, jitter)
    made = play_live(times_ns, times_ns[-1] + LATENCY_NS + 1)
    first_ns = times_ns[0] + LATENCY_NS
    assert [framed for t_ns, framed in made if t_ns >= first_ns] == [True] * len(times_ns)


@pytest.mark.parametrize("fps", RATES)
def test_camera_that_dies(play_live: Callable[..., list[tuple[int, bool]]], fps: float) -> None:
    """Audio goes on alone after one and a half frame periods, at least a quarter of a second; then
    four times a second."""
    times_ns = stamps(fps, 5)
    died_ns = times_ns[-1] + LATENCY_NS
    made = play_live(times_ns, died_ns + 5 * SECOND)
    alone_ns = [t_ns - died_ns for t_ns, framed in made if t_ns > died_ns and not framed]
    late_ns = max(AUDIO_ONLY_PERIOD_NS, round(1.5 * SECOND / fps))
    assert alone_ns[0] == pytest.approx(late_ns, abs=1000)
    assert alone_ns[0] <= MAX_WAIT_NS
    assert np.diff(alone_ns) == pytest.approx(AUDIO_ONLY_PERIOD_NS, abs=1000)
    assert len(alone_ns) >= 4 * (5 - late_ns / SECOND) - 1


@pytest.mark.parametrize("count", [0, 1])
def test_camera_that_hardly_begins(
    play_live: Callable[..., list[tuple[int, bool]]], count: int
) -> None:
    """No frame at all: audio at once. A single one: its successor is awaited, but not for ever."""
    times_ns = stamps(30, 1)[:count]
    made = play_live(times_ns, START_NS + 5 * SECOND)
    waits_ns = times_ns[0] + LATENCY_NS + MAX_WAIT_NS if count else START_NS + AUDIO_ONLY_PERIOD_NS
    assert next(t_ns for t_ns, framed in made if not framed) == pytest.approx(waits_ns, abs=1000)


def test_one_frame_lost_is_not_a_slower_camera() -> None:
    """Nor is an hour without camera; two slow frames in a row are."""
    timer = AudioOnlyTimer(0)
    now_ns = 0

    def wait_after(gap_s: float) -> float:
        nonlocal now_ns
        now_ns += round(gap_s * SECOND)
        timer.note_frame(now_ns, now_ns)
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


class SlowFilm:
    """Media of the demo's voice, with frames at times of one's choice."""

    sample_rate_hz = RATE
    has_video = has_audio = True
    copies_per_frame = 0

    def __init__(self, times_ns: Sequence[int], seconds: float) -> None:
        self._times_ns = times_ns
        self._seconds = seconds

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
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
        monkeypatch.setattr(replay, "open_media", lambda _: SlowFilm(times_ns, seconds))
        run_replay(configure("film.mp4"), [collector])
        return [e.t_ns for e in collector.estimates]

    return play


@pytest.mark.parametrize("fps", RATES)
def test_replay_of_a_slow_film(play_video: Callable[..., list[int]], fps: int) -> None:
    """One estimate for each frame, and none after the last, as in a live run."""
    times_ns = [n * SECOND // fps for n in range(4 * fps)]
    assert play_video(times_ns, 6) == times_ns


def test_replay_of_a_film_that_pauses(play_video: Callable[..., list[int]]) -> None:
    """Audio goes on alone until the next frame."""
    times_ns = [n * SECOND // 10 for n in range(20)]
    pause_ns = [times_ns[-1] + n * SECOND // 4 for n in range(1, 5)]
    assert play_video([*times_ns, 3 * SECOND], 4) == [*times_ns, *pause_ns, 3 * SECOND]
