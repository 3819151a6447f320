"""Soak test: a day of the pipeline on a fake clock leaks nothing and loses nothing."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import psutil

from emotion_edge.runtime.board.status import BoardStatus
from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.health import Monitor
from emotion_edge.runtime.messages import AudioChunk, Estimate, VideoFrame
from emotion_edge.runtime.quality.controller import LevelCost, QualityController
from emotion_edge.runtime.service.sd_notify import Watchdog
from emotion_edge.runtime.session import Runtime, open_runtime

SECOND = 1_000_000_000
RATE = 16_000
HOURS = 24
FACE = draw_face(0.5)
VOICE = synthesize_speech(0, 4 * RATE)


class Counter:
    """A sink that counts."""

    def __init__(self) -> None:
        self.estimates = 0
        self.voices = 0

    def publish(self, estimate: Estimate) -> None:
        self.estimates += 1
        self.voices += estimate.voice is not None

    def close(self) -> None: ...


class FakeBoard:
    """A board without any problem."""

    def read(self) -> BoardStatus:
        return BoardStatus(10.0, 4000.0, 300.0, 55.5, None, cpu_pressure=0.1)


class Day:
    """Feeds frames and audio to a run."""

    def __init__(self, runtime: Runtime, clock: FakeClock, sink: Counter) -> None:
        self.frames = 0
        self._runtime, self._clock, self._sink = runtime, clock, sink
        self._samples = 0

    def add_frame(self) -> None:
        t_ns = self._clock.now_ns()
        frame = VideoFrame(t_ns, self.frames, FACE)
        self._runtime.face_tracker.track(frame) if self.frames % 200 == 0 else None
        faces = self._runtime.face_tracker.faces_for(frame)
        voice_due = self._runtime.pipeline.is_voice_due(t_ns)
        window = self._runtime.synchroniser.window(t_ns, frame, faces, voice_due)
        self._runtime.process(window, t_ns, t_ns, [self._sink])
        self.frames += 1

    def add_audio(self, samples: int) -> None:
        at = self._samples % (len(VOICE) - samples)
        t_ns = self._clock.now_ns() - samples * SECOND // RATE
        chunk = AudioChunk(t_ns, self._samples, VOICE[at : at + samples])
        self._runtime.synchroniser.add_audio(chunk)
        self._samples += samples

    def spend_hour(self, monitor: Monitor) -> None:
        """Half a minute at full rate, then a frame every ten seconds without audio."""
        for _ in range(30 * 30):
            self._clock.advance(SECOND // 30)
            self.add_audio(RATE // 30)
            self.add_frame()
            if self.frames % 15 == 0:
                monitor.poll()
        for _ in range(357):
            self._clock.advance(10 * SECOND)
            self.add_frame()
            monitor.poll()
        self._samples += round(3570 * RATE)  # the microphone was missing


def test_a_day(null_bundle: Path) -> None:
    """No more threads, descriptors or objects than after an hour, and one estimate per frame."""
    fixed = ["source.name=demo", f"bundle='{null_bundle}'", "engines.name=null"]
    clock, sink, process = FakeClock(SECOND), Counter(), psutil.Process()
    with open_runtime(load_config(None, fixed), clock) as runtime:
        costs = [LevelCost(name, 0.1, 5.0, 0.0) for name in ("high", "low")]
        runtime.quality = QualityController(costs, 45.0)
        monitor = Monitor(runtime, FakeBoard(), Watchdog(clock, {}))
        day = Day(runtime, clock, sink)
        day.spend_hour(monitor)
        gc.collect()
        objects, rss = len(gc.get_objects()), process.memory_info().rss
        threads, files = threading.active_count(), process.num_fds()
        for _ in range(1, HOURS):
            day.spend_hour(monitor)
        gc.collect()
        assert clock.now_ns() > HOURS * 3_590 * SECOND
        assert sink.estimates == day.frames == runtime.latency.count
        assert sink.voices > HOURS * 800
        assert runtime.latency.misses == 0
        assert runtime.level_switches == 0
        assert threading.active_count() <= threads
        assert process.num_fds() <= files
        assert len(gc.get_objects()) <= objects + 100
        assert process.memory_info().rss <= 1.02 * rss
