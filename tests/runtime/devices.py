"""Cameras and microphones that are not there, in real time."""

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


class Camera:
    """30 pictures a second from `begin` on; fails after `count`."""

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
        return VideoFrame(self._clock.now_ns(), index, FACE.copy())  # the run wipes its own

    def close(self) -> None:
        self._stop.set()


class Microphone:
    """10 ms of the demo's voice at a time; fails after `seconds`."""

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
        if self._start_ns is None:  # it is opened long before it is read on a busy machine
            self._start_ns = self._clock.now_ns()
        t_ns = self._start_ns + first * SECOND // RATE
        if self._clock.sleep_until_ns(t_ns + SECOND // 100, self._stop):
            return None
        return AudioChunk(t_ns, first, VOICE[first % len(VOICE) :][:160])

    def close(self) -> None:
        self._stop.set()
