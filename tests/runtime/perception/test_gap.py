"""Half a minute with a gap of an hour in it: nothing of before the gap speaks for after it."""

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
NOBODY = np.full_like(FACE, 90)
VOICE = synthesize_speech(0, 4 * RATE)
HUSH = (1e-4 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)


class Room:
    """Frames and audio in step, on a clock that the test moves; the face is searched eight times a
    second, as the finder's thread does, after the frame has been looked at."""

    def __init__(self, runtime: Runtime, clock: FakeClock, sink: Collector) -> None:
        self.runtime, self.clock, self.sink = runtime, clock, sink
        self.number = 0
        self.frames = 0

    def spend(self, seconds: float, audio: Float32 | None, image: object = FACE) -> list[Estimate]:
        """-> an estimate for each frame."""
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
            self.look(image)
        return self.sink.estimates[begin:]

    def look(self, image: object = FACE) -> Estimate:
        t_ns = self.clock.now_ns()
        frame = VideoFrame(t_ns, self.frames, image)  # type: ignore[arg-type]
        runtime = self.runtime
        window = runtime.synchroniser.window(
            t_ns, frame, runtime.face_tracker.box_for(frame), wait=False
        )
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
def test_voice_of_an_hour_ago_is_not_heard(room: Room, counted: bool) -> None:
    """The microphone comes back into silence: no voice until somebody has spoken since, whether
    the source counts what was lost or only its stamps show it; and the skew is true."""
    before = room.spend(4, VOICE)
    assert before[-1].voice is not None
    room.clock.advance(HOUR)
    if counted:
        room.number += HOUR // SECOND * RATE
    silent = room.spend(2, HUSH)
    assert [e.voice for e in silent] == [None] * len(silent)
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in silent)
    spoken = room.spend(2, VOICE)
    assert spoken[-1].voice is not None
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in spoken)
    assert room.runtime.synchroniser.audio_clock.gaps == 1


class Light:
    """An indicator that is out for an hour."""

    def __init__(self, clock: FakeClock, out_ns: int) -> None:
        self._clock = clock
        self.out_ns = out_ns

    @property
    def lit(self) -> bool:
        return not self.out_ns <= self._clock.now_ns() < self.out_ns + HOUR


class Talker:
    """A microphone beside somebody who talks until the light goes out. The room is looked at for
    every sixth chunk."""

    sample_rate_hz = RATE

    def __init__(self, room: Room, light: Light) -> None:
        self._room, self._light = room, light
        self._number = 0
        self.closed = False

    def read(self) -> AudioChunk | None:
        clock, light = self._room.clock, self._light
        t_ns = clock.now_ns()
        if light.lit and self._number % 960 == 0:
            self._room.look(NOBODY)
        if t_ns >= light.out_ns + HOUR + 2 * SECOND:
            return None
        last_minute_ns = light.out_ns + HOUR - 60 * SECOND
        count = 60 * RATE if light.out_ns <= t_ns < last_minute_ns else 160
        audio = VOICE if t_ns < light.out_ns else HUSH
        samples = audio.take(np.arange(self._number, self._number + count), mode="wrap")
        chunk = AudioChunk(t_ns, self._number, samples)
        self._number += count
        clock.advance(count * SECOND // RATE)
        return chunk

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("closed", [True, False])
def test_voice_of_before_the_light_went_out(
    room: Room, configure: Callable[..., Config], closed: bool
) -> None:
    """For an hour the microphone may not be read: it is closed meanwhile, or what it gives is
    dropped. The voice of before is not heard afterwards, and the skew is true."""
    light = Light(room.clock, room.clock.now_ns() + 3 * SECOND)
    waiting = WaitPolicy(capture_allowed=lambda: light.lit)
    opened: list[Talker] = []

    def open_talker() -> Talker:
        opened.append(Talker(room, light))
        return opened[-1]

    source: AudioSource = open_talker()
    if closed:
        source = ReconnectingAudio("microphone", open_talker, room.clock, waiting)
    run = LiveRun(configure("demo"), [])
    run._capture_audio(source, light, room.runtime.synchroniser, alone=False)  # type: ignore[arg-type]
    before = [e for e in room.sink.estimates if e.t_ns < light.out_ns]
    after = room.sink.estimates[len(before) :]
    assert before[-1].voice is not None
    assert len(after) > 30
    assert [e.voice for e in after] == [None] * len(after)
    assert all(-100_000 <= e.skew_ns <= 11_000_000 for e in after)


def test_face_of_an_hour_ago_is_not_looked_at(room: Room) -> None:
    """The camera comes back and nobody is there: where the face was is not cropped, not even until
    the first search."""
    assert room.spend(2, None)[-1].face is not None
    room.clock.advance(HOUR)
    room.frames += 1  # the next search is not due with the first frame
    assert [e.face for e in room.spend(1, None, NOBODY)] == [None] * FPS
    assert room.spend(1, None)[-1].face is not None
