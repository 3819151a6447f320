"""A file at `--pace real` and at `--pace max`: the same estimates at the same times.

On a fake clock. Videos of under four frames a second, still images, and audio beyond the frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from emotion_edge.runtime import replay
from emotion_edge.runtime.capture import merge_events
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import AudioChunk, Estimate, VideoFrame
from emotion_edge.runtime.perception import FaceSearch
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.session import Runtime, open_runtime

if TYPE_CHECKING:
    from .conftest import Collector

SECOND = 1_000_000_000
RATE = 16_000
CHUNK_NS = SECOND // 100
START_NS = 12_345_678_901_234
DELIVERY_NS = 12_000_000
"""From a frame's time to its delivery by a busy machine: the chunk that covers it has come."""
TOLERANCE = 1e-4


class Clip:
    """Frames at given times, of which the last is shown for `stated_s`, and the demo's voice."""

    sample_rate_hz = RATE
    copies_per_frame = 0
    has_audio = True

    def __init__(
        self, times_s: list[float], audio_s: float, audio_at_s: float = 0.0, stated_s: float = 0.04
    ) -> None:
        self.has_video = bool(times_s)
        self.times_s, self.audio_s, self.audio_at_s = times_s, audio_s, audio_at_s
        self.stated_ns = round(stated_s * SECOND)

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for index, t_s in enumerate(self.times_s):
            image = draw_face(5 * t_s)  # moves far from one frame to the next
            yield VideoFrame(round(t_s * SECOND), index, image, shown_ns=self.stated_ns)

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        voice = synthesize_speech(0, round(self.audio_s * RATE))
        start_ns = round(self.audio_at_s * SECOND)
        for first in range(0, len(voice), 160):
            t_ns = start_ns + first * SECOND // RATE
            yield AudioChunk(t_ns, first, voice[first : first + 160])


class PlayedRing:
    """A `FrameRing` and the threads that fill it: frames and audio come when they are due. Waiting
    moves the clock."""

    def __init__(self, clip: Clip, runtime: Runtime, clock: FakeClock) -> None:
        self._runtime, self._clock = runtime, clock
        self._newest: VideoFrame | None = None
        deliveries: list[tuple[int, VideoFrame | AudioChunk]] = []
        for event in merge_events(clip):
            moved = replace(event, t_ns=START_NS + event.t_ns)
            late_ns = CHUNK_NS if isinstance(event, AudioChunk) else DELIVERY_NS
            deliveries.append((moved.t_ns + late_ns, moved))
        self._deliveries = sorted(deliveries, key=lambda delivery: delivery[0])

    @property
    def ended(self) -> bool:
        return not self._deliveries

    def newest(self) -> VideoFrame | None:
        return self._newest

    def take(self, timeout_s: float) -> tuple[VideoFrame | None, int]:
        until_ns = self._clock.now_ns() + round(timeout_s * 1e9)
        while self._deliveries and self._deliveries[0][0] <= until_ns:
            at_ns, item = self._deliveries.pop(0)
            self._clock.advance(max(0, at_ns - self._clock.now_ns()))
            if isinstance(item, VideoFrame):
                self._newest = item
                return item, 0
            self._runtime.synchroniser.add_audio(item)
        if self._deliveries:
            self._clock.advance(until_ns - self._clock.now_ns())
        return None, 0


class NoMonitor:
    def progress(self) -> None: ...


@pytest.fixture
def play_real(configure: Callable[..., Config], collector: Collector) -> Callable[..., Any]:
    """A function (clip) -> the estimates of a live run of it."""

    def play(clip: Clip, seconds: float | None = None) -> list[Estimate]:
        clock = FakeClock(START_NS)
        config = configure("clip.mp4")
        collector.estimates = []
        run: Any = LiveRun(config, [collector])
        with open_runtime(config, clock) as runtime:
            run._clock, run._frames = clock, PlayedRing(clip, runtime, clock)
            search = FaceSearch(runtime.face_tracker, clock)
            run._loop(runtime, search, NoMonitor(), lambda: False, seconds)
        return collector.estimates

    return play


@pytest.fixture
def play_max(
    configure: Callable[..., Config], collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A function (clip) -> the estimates of a replay of it."""

    def play(clip: Clip, seconds: float | None = None) -> list[Estimate]:
        monkeypatch.setattr(replay, "open_media", lambda *_, **__: clip)
        collector.estimates = []
        run_replay(configure("clip.mp4"), [collector], seconds)
        return collector.estimates

    return play


def spread(fps: float, seconds: float, at_s: float = 0.0) -> list[float]:
    return [at_s + n / fps for n in range(round(seconds * fps))]


CLIPS = {
    "1 fps": Clip(spread(1, 6), 6),
    "2 fps": Clip(spread(2, 6), 6),
    "3 fps": Clip(spread(3, 5), 5),
    "3.9 fps": Clip(spread(3.9, 5), 5),
    "0.6 fps": Clip(spread(0.6, 8), 8),
    "0.2 fps, as a slide show": Clip(spread(0.2, 15), 15, stated_s=5),
    "0.2 fps, not stated": Clip(spread(0.2, 15), 15, stated_s=0.04),
    "a still image of 6 s, 8 s of audio": Clip([0.0], 8, stated_s=6),
    "a cover": Clip([0.0], 5, stated_s=0.04),
    "audio alone": Clip([], 4),
    "frames begin late": Clip(spread(2, 3, 2.3), 5.3),
    "frames end early": Clip(spread(3, 2), 6),
    "audio begins late": Clip(spread(2, 6), 4, audio_at_s=2.2),
    "audio ends early": Clip(spread(2, 6), 2.1),
    "a gap": Clip([*spread(2, 2), *spread(2, 2, 6.1)], 8),
    "between frames and nothing": Clip(spread(2, 2), 2, audio_at_s=4.0),
}


@pytest.mark.parametrize("name", CLIPS)
def test_real_and_max_are_alike(
    play_real: Callable[..., list[Estimate]], play_max: Callable[..., list[Estimate]], name: str
) -> None:
    """But for the measured times."""
    real, fast = play_real(CLIPS[name]), play_max(CLIPS[name])
    assert [e.t_ns - START_NS for e in real] == [e.t_ns for e in fast]
    for at_real, at_max in zip(real, fast, strict=True):
        assert (at_real.index, at_real.label) == (at_max.index, at_max.label)
        assert at_real.probabilities == pytest.approx(at_max.probabilities, abs=TOLERANCE)
        assert at_real.face == (at_max.face and pytest.approx(at_max.face, abs=TOLERANCE))
        assert at_real.voice == (at_max.voice and pytest.approx(at_max.voice, abs=TOLERANCE))
        assert at_real.skew_ns == pytest.approx(at_max.skew_ns, abs=1000)


@pytest.mark.parametrize("name", ["2 fps", "audio alone", "frames begin late"])
def test_seconds_are_counted_alike(
    play_real: Callable[..., list[Estimate]], play_max: Callable[..., list[Estimate]], name: str
) -> None:
    """From the first frame or sample."""
    real, fast = play_real(CLIPS[name], 2.5), play_max(CLIPS[name], 2.5)
    assert [e.t_ns - START_NS for e in real] == [e.t_ns for e in fast]
    assert 2.0 * SECOND <= fast[-1].t_ns < 2.5 * SECOND


@pytest.mark.parametrize("name", CLIPS)
def test_estimates_go_on_to_the_end(play_max: Callable[..., list[Estimate]], name: str) -> None:
    """Each later than the one before, and none more than 2 s after it while there is audio."""
    clip = CLIPS[name]
    times_s = [e.t_ns / SECOND for e in play_max(clip)]
    assert all(after > before for before, after in itertools.pairwise(times_s))
    audio_end_s = clip.audio_at_s + clip.audio_s
    frames_end_s = max(clip.times_s, default=0.0)
    assert max(audio_end_s - 1.5, frames_end_s) <= times_s[-1] <= max(audio_end_s, frames_end_s)
    heard_s = [clip.audio_at_s, *(t_s for t_s in times_s if clip.audio_at_s <= t_s), audio_end_s]
    assert all(after - before <= 2.0 for before, after in itertools.pairwise(heard_s))


@pytest.mark.parametrize("name", ["1 fps", "2 fps", "3 fps", "3.9 fps", "0.6 fps"])
def test_face_is_held_for_a_frame_period(
    play_real: Callable[..., list[Estimate]], name: str
) -> None:
    """No estimate is without face, and none without label."""
    estimates = play_real(CLIPS[name])
    assert all(e.face is not None and e.label is not None for e in estimates)


def test_face_of_a_still_image_is_used_while_it_is_shown(
    play_real: Callable[..., list[Estimate]],
) -> None:
    """As long as the file states, and no longer."""
    estimates = play_real(CLIPS["a still image of 6 s, 8 s of audio"])
    assert [e.face is not None for e in estimates] == [
        e.t_ns < START_NS + 6 * SECOND for e in estimates
    ]
    assert len(estimates) == 33
    cover = play_real(CLIPS["a cover"])
    assert [e.face is not None for e in cover] == [True] + [False] * 20


def test_face_is_not_used_in_a_long_gap(play_real: Callable[..., list[Estimate]]) -> None:
    """A file that does not say that the image stands still: no face after 2 s without frames."""
    estimates = play_real(CLIPS["a gap"])
    faces_s = [(e.t_ns - START_NS) / SECOND for e in estimates if e.face is not None]
    assert not any(3.5 <= t_s < 6.1 for t_s in faces_s)
    assert any(3.0 <= t_s < 3.5 for t_s in faces_s)
