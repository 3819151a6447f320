"""Fake cameras and microphones in real time."""

from __future__ import annotations

import itertools
import threading

from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import MonotonicClock
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

RATE = 16_000
SECOND = 1_000_000_000
FACE = draw_face(0.5)
VOICE = synthesize_speech(0, 10 * RATE)


class FakeCamera:
    """30 frames per second from the first read on; fails after `count` frames."""

    def __init__(self, count: int | None = None) -> None:
        self._clock = MonotonicClock()
        self._stop = threading.Event()
        self._next_ns: int | None = None
        self._numbers = iter(range(count)) if count is not None else itertools.count()
        self.path = CapturePath(2, "v4l2 monotonic", "none")

    def read(self) -> VideoFrame | None:
        if self._next_ns is None:
            self._next_ns = self._clock.now_ns()
        self._next_ns += SECOND // 30
        if self._clock.sleep_until_ns(self._next_ns, self._stop):
            return None
        index = next(self._numbers, None)
        if index is None:
            raise SourceError("unplugged")
        return VideoFrame(self._clock.now_ns(), index, FACE.copy())  # the run wipes the array

    def close(self) -> None:
        self._stop.set()


class FakeMicrophone:
    """The voice of the demo in chunks of 10 ms; fails after `seconds`."""

    sample_rate_hz = RATE

    def __init__(self, seconds: float = 3600.0) -> None:
        self._clock = MonotonicClock()
        self._stop = threading.Event()
        self._start_ns: int | None = None
        self._seconds = seconds
        self._count = 0

    def read(self) -> AudioChunk | None:
        first = self._count * 160
        if first >= self._seconds * RATE:
            raise SourceError("unplugged")
        self._count += 1
        if self._start_ns is None:  # on a busy machine long after opening
            self._start_ns = self._clock.now_ns()
        t_ns = self._start_ns + first * SECOND // RATE
        if self._clock.sleep_until_ns(t_ns + SECOND // 100, self._stop):
            return None
        return AudioChunk(t_ns, first, VOICE[first % len(VOICE) :][:160])

    def close(self) -> None:
        self._stop.set()
