"""A gap of an hour in audio or frames: nothing from before it is used after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.capture.reconnect import ReconnectingAudio, WaitPolicy
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.live import LiveRun
from emotion_edge.runtime.messages import (
    AudioChunk,
    AudioSource,
    Estimate,
    Float32,
    VideoFrame,
)
from emotion_edge.runtime.session import Runtime, open_runtime

from ..conftest import Collector

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
RATE = 16_000
FPS = 30
FACE = draw_face(0.5)
EMPTY_ROOM = np.full_like(FACE, 90)
VOICE = synthesize_speech(0, 4 * RATE)
NOISE_FLOOR = (1e-4 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)


class Room:
    """Frames and audio in step on a fake clock. The face is searched eight times a second, after
    the frame's estimate, as the search thread does."""

    def __init__(self, runtime: Runtime, clock: FakeClock, sink: Collector) -> None:
        self.runtime, self.clock, self.sink = runtime, clock, sink
        self.number = 0
        self.frames = 0

    def play(self, seconds: float, audio: Float32 | None, image: object = FACE) -> list[Estimate]:
        """Return the estimates of the next `seconds`."""
        begin = len(self.sink.estimates)
        step = RATE // FPS
        for n in range(round(seconds * FPS)):
            t_ns = self.clock.now_ns()
            if audio is not None:
                at = n * step % (len(audio) - step)
                chunk = AudioChunk(t_ns, self.number, audio[at : at + step])
                self.runtime.synchroniser.add_audio(chunk)
                self.number += step
            self.clock.advance(step * SECOND // RATE)
            self.estimate(image)
        return self.sink.estimates[begin:]

    def estimate(self, image: object = FACE) -> Estimate:
        t_ns = self.clock.now_ns()
        frame = VideoFrame(t_ns, self.frames, image)  # type: ignore[arg-type]
        runtime = self.runtime
        faces, voice_due = (
            runtime.face_tracker.faces_for(frame),
            runtime.pipeline.is_voice_due(t_ns),
        )
        window = runtime.synchroniser.window(t_ns, frame, faces, voice_due)
        runtime.process(window, t_ns, t_ns, [self.sink])
        if self.frames % (FPS // 8) == 0:
            runtime.face_tracker.track(frame)
        self.frames += 1
        return self.sink.estimates[-1]


@pytest.fixture
def room(configure: Callable[..., Config], collector: Collector) -> Iterator[Room]:
    clock = FakeClock(SECOND)
    with open_runtime(configure("demo"), clock) as runtime:
        yield Room(runtime, clock, collector)


@pytest.mark.parametrize("counted", [True, False])
def test_voice_of_an_hour_ago_is_not_used(room: Room, counted: bool) -> None:
    """The microphone comes back into silence: no voice until there is new speech, whether the
    source counts the loss or only its timestamps show it. The skew is true."""
    before = room.play(4, VOICE)
    assert before[-1].voice is not None
    room.clock.advance(HOUR)
    if counted:
        room.number += HOUR // SECOND * RATE
    silent = room.play(2, NOISE_FLOOR)
    assert [e.voice for e in silent] == [None] * len(silent)
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in silent)
    spoken = room.play(2, VOICE)
    assert spoken[-1].voice is not None
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in spoken)
    assert room.runtime.synchroniser.audio_clock.gaps == 1


class Indicator:
    """A camera indicator that is off for an hour."""

    def __init__(self, clock: FakeClock, out_ns: int) -> None:
        self._clock = clock
        self.out_ns = out_ns

    @property
    def lit(self) -> bool:
        return not self.out_ns <= self._clock.now_ns() < self.out_ns + HOUR


class ScriptedMicrophone:
    """A microphone that records speech until the indicator is off. Every sixth chunk has a
    frame."""

    sample_rate_hz = RATE

    def __init__(self, room: Room, indicator: Indicator) -> None:
        self._room, self._indicator = room, indicator
        self._number = 0
        self.closed = False

    def read(self) -> AudioChunk | None:
        clock, indicator = self._room.clock, self._indicator
        t_ns = clock.now_ns()
        if indicator.lit and self._number % 960 == 0:
            self._room.estimate(EMPTY_ROOM)
        if t_ns >= indicator.out_ns + HOUR + 2 * SECOND:
            return None
        last_minute_ns = indicator.out_ns + HOUR - 60 * SECOND
        count = 60 * RATE if indicator.out_ns <= t_ns < last_minute_ns else 160
        audio = VOICE if t_ns < indicator.out_ns else NOISE_FLOOR
        samples = audio.take(np.arange(self._number, self._number + count), mode="wrap")
        chunk = AudioChunk(t_ns, self._number, samples)
        self._number += count
        clock.advance(count * SECOND // RATE)
        return chunk

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("closed", [True, False])
def test_voice_from_before_the_indicator_was_off(
    room: Room, configure: Callable[..., Config], closed: bool
) -> None:
    """For an hour the microphone may not be read: it is closed meanwhile, or its audio is dropped.
    The voice from before is not used afterwards, and the skew is true."""
    indicator = Indicator(room.clock, room.clock.now_ns() + 3 * SECOND)
    waiting = WaitPolicy(capture_allowed=lambda: indicator.lit)
    opened: list[ScriptedMicrophone] = []

    def open_microphone() -> ScriptedMicrophone:
        opened.append(ScriptedMicrophone(room, indicator))
        return opened[-1]

    source: AudioSource = open_microphone()
    if closed:
        source = ReconnectingAudio("microphone", open_microphone, room.clock, waiting)
    run = LiveRun(configure("demo"), [])
    run._capture_audio(source, indicator, room.runtime.synchroniser)  # type: ignore[arg-type]
    before = [e for e in room.sink.estimates if e.t_ns < indicator.out_ns]
    after = room.sink.estimates[len(before) :]
    assert before[-1].voice is not None
    assert len(after) > 30
    assert [e.voice for e in after] == [None] * len(after)
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in after)


def test_box_of_an_hour_ago_is_not_used(room: Room) -> None:
    """The camera comes back to an empty room: the old box is not cropped, not even before the first
    search."""
    assert room.play(2, None)[-1].face is not None
    room.clock.advance(HOUR)
    room.frames += 1  # the next search is not due with the first frame
    assert [e.face for e in room.play(1, None, EMPTY_ROOM)] == [None] * FPS
    assert room.play(1, None)[-1].face is not None
