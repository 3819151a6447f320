"""Runs: owns the threads, and takes all of them down again.

`run_live` has a thread per source and one for the face finder; `run_replay` (`--pace max`) plays
a file in lock-step, on the file's own time, so that the same file gives the same answers.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from .board import open_board
from .build_report import report_build
from .clock import MonotonicClock
from .config import Config
from .faces import FaceFinder
from .messages import AudioChunk, AudioSource, Health, Sink, VideoFrame, VideoSource
from .opening import Runtime, open_runtime
from .priority import run_in_background
from .ring import FrameRing
from .sinks import SinkClosed
from .sources import Sources, open_media, open_sources
from .sources.playback import merge_events
from .sync import Synchroniser
from .watchdog import Watchdog

log = logging.getLogger(__name__)

BLIND_TICK_NS = 250_000_000
"""Without pictures for this long, estimates go on from sound alone, this often."""
SWITCH_INTERVAL_S = 5e-4
"""How long another thread may keep the interpreter from the one that makes results; Python's 5 ms
raise the median latency by a third on two cores."""
MONITOR_PERIOD_NS = 500_000_000
JOIN_TIMEOUT_S = 5.0


def run_replay(config: Config, sinks: Sequence[Sink], seconds: float | None = None) -> Runtime:
    """Play a file or the demo as fast as it goes. All `t_ns` are on the file's own time; the
    clock only measures how long the work took."""
    clock = MonotonicClock()
    media = open_media(config.source.name)
    with open_runtime(config, clock, report_build) as runtime:
        end_ns = None if seconds is None else round(seconds * 1e9)
        search_ns = round(1e9 / runtime.level.face_find_hz)
        search_due_ns = 0
        for event in _with_ticks(merge_events(media), media.has_video):
            t_ns = event if isinstance(event, int) else event.t_ns
            if end_ns is not None and t_ns >= end_ns:
                break
            if isinstance(event, AudioChunk):
                runtime.synchroniser.add_audio(event)
                continue
            frame = event if isinstance(event, VideoFrame) else None
            if frame is not None and t_ns >= search_due_ns:
                runtime.finder.search(frame)
                search_due_ns = t_ns + search_ns
            now_ns = clock.now_ns()
            box = runtime.finder.box_in(frame) if frame is not None else None
            window = runtime.synchroniser.window(t_ns, frame, box, wait=False)
            runtime.process(window, now_ns, now_ns, sinks)
    return runtime


def _with_ticks(
    events: Iterator[VideoFrame | AudioChunk], has_video: bool
) -> Iterator[VideoFrame | AudioChunk | int]:
    """Without pictures, a time every `BLIND_TICK_NS` stands in for them."""
    due = BLIND_TICK_NS
    for event in events:
        while not has_video and event.t_ns >= due:
            yield due
            due += BLIND_TICK_NS
        yield event


class StoppedEarly(Exception):
    """`LiveRun.stop` was called before the run had begun."""


class LiveRun:
    """A run in real time. `run` blocks; `stop` may be called from anywhere, a signal too."""

    def __init__(
        self,
        config: Config,
        sinks: Sequence[Sink],
        *,
        replay_fps: float | None = None,
        on_health: Callable[[Health], None] | None = None,
    ) -> None:
        self._config = config
        self._sinks = sinks
        self._replay_fps = replay_fps
        self._on_health = on_health
        self._stop = threading.Event()
        self._frames = FrameRing()
        self._clock = MonotonicClock()
        self._failure: BaseException | None = None

    def stop(self) -> None:
        if not self._stop.is_set():  # a second signal must not meet the first inside `set`
            self._stop.set()
            self._frames.end()

    def run(self, seconds: float | None = None) -> Runtime:
        """Until the source ends, `stop`, or `seconds` after the first picture. Raises StoppedEarly
        for a `stop` while an engine is being built, which then is given up."""
        source = self._config.source
        with (
            Watchdog(self._clock) as watchdog,
            open_runtime(
                self._config,
                self._clock,
                lambda text: self._report_build(text, watchdog),
            ) as runtime,
            open_sources(
                source.name,
                clock=self._clock,
                microphone=source.microphone,
                loop=source.loop,
                width=source.width_px,
                height=source.height_px,
                camera_fps=source.camera_fps,
                capture=source.capture,
                for_gpu=runtime.on_gpu,
                replay_fps=self._replay_fps,
            ) as sources,
        ):
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            threads = self._start_threads(runtime, sources, watchdog)
            watchdog.ready(f"reading {sources.name}")
            try:
                self._loop(runtime, watchdog, seconds)
            except SinkClosed:
                log.info("nobody reads the output any more")
            finally:
                if sources.video is not None:
                    runtime.capture_path = sources.video.path
                self.stop()
                watchdog.stopping()
                sources.close()
                for thread in threads:
                    thread.join(JOIN_TIMEOUT_S)
                    if thread.is_alive():
                        log.error("thread %s did not stop", thread.name)
        if self._failure is not None:
            raise self._failure
        return runtime

    def _report_build(self, text: str, watchdog: Watchdog) -> None:
        if self._stop.is_set():
            raise StoppedEarly("stopped while an engine was being built")
        report_build(text, watchdog)

    def _start_threads(
        self, runtime: Runtime, sources: Sources, watchdog: Watchdog
    ) -> list[threading.Thread]:
        bodies: dict[str, Callable[[], None]] = {
            "monitor": lambda: self._monitor(runtime, watchdog)
        }
        video, audio = sources.video, sources.audio
        if video is not None:
            period_ns = round(1e9 / runtime.level.face_find_hz)
            bodies["video"] = lambda: self._capture_video(video)
            bodies["face-finder"] = lambda: self._find_faces(runtime.finder, period_ns)
        if audio is not None:
            bodies["audio"] = lambda: self._capture_audio(
                audio, runtime.synchroniser, alone=video is None
            )
        threads = [
            threading.Thread(target=self._guard, args=(body,), name=name, daemon=True)
            for name, body in bodies.items()
        ]
        for thread in threads:
            thread.start()
        return threads

    def _guard(self, body: Callable[[], None]) -> None:
        """A thread that fails ends the run; its error is raised from `run`."""
        try:
            body()
        except Exception as error:  # noqa: BLE001  it must not vanish with the thread
            if not self._stop.is_set():
                self._failure = error
                self.stop()

    def _find_faces(self, finder: FaceFinder, period_ns: int) -> None:
        run_in_background()
        finder.run(self._frames.newest, period_ns, self._clock, self._stop)

    def _capture_video(self, source: VideoSource) -> None:
        while not self._stop.is_set():
            frame = source.read()
            if frame is None:
                break
            self._frames.put(frame)
        self._frames.end()

    def _capture_audio(self, source: AudioSource, to: Synchroniser, alone: bool) -> None:
        while not self._stop.is_set():
            chunk = source.read()
            if chunk is None:
                break
            to.add_audio(chunk)
        if alone:
            self._frames.end()

    def _loop(self, runtime: Runtime, watchdog: Watchdog, seconds: float | None) -> None:
        clock, sync = self._clock, runtime.synchroniser
        end_ns: int | None = None
        while not self._stop.is_set():
            frame, dropped = self._frames.take(BLIND_TICK_NS / 1e9)
            woke_ns = clock.now_ns()
            if frame is None:
                if self._frames.ended:
                    return
                t_ns = sync.newest_sound_ns()
                if t_ns is None or woke_ns - t_ns > sync.MAX_SKEW_NS:
                    continue
            else:
                t_ns = frame.t_ns
            if seconds is not None:
                end_ns = end_ns or t_ns + round(seconds * 1e9)
                if t_ns >= end_ns:
                    return
            wait = frame is not None and runtime.pipeline.wants_voice(t_ns)
            box = runtime.finder.box_in(frame) if frame is not None else None
            window = sync.window(t_ns, frame, box, wait, dropped)
            runtime.process(window, t_ns, woke_ns, self._sinks)
            watchdog.progress()

    def _monitor(self, runtime: Runtime, watchdog: Watchdog) -> None:
        board = open_board()
        due, frames_before = self._clock.now_ns(), 0
        while not self._clock.sleep_until_ns(due := due + MONITOR_PERIOD_NS, self._stop):
            watchdog.tick()
            frames = runtime.latency.count
            fps = (frames - frames_before) / (MONITOR_PERIOD_NS / 1e9)
            frames_before = frames
            health = measure_health(runtime, fps, board.read().temperature_c)
            watchdog.status(
                f"{fps:.0f} fps, p99 {health.latency_p99_ms:.1f} ms, {health.misses} misses"
            )
            if self._on_health is not None:
                self._on_health(health)


def measure_health(runtime: Runtime, fps: float, temperature_c: float | None) -> Health:
    p50, p95, p99 = runtime.latency.percentiles_ms(50, 95, 99)
    sync = runtime.synchroniser
    bad = {f"{name}_not_finite": n for name, n in runtime.pipeline.bad_outputs.items()}
    return Health(
        t_ns=runtime.clock.now_ns(),
        frames=runtime.latency.count,
        fps=fps,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
        misses=runtime.latency.misses,
        drops={
            "frames": runtime.dropped_frames,
            "audio_gaps": sync.audio_clock.gaps,
            "audio_overrun_samples": sync.overrun_samples,
            **bad,
        },
        skew_ms=runtime.skew_ns / 1e6,
        drift_ppm=sync.audio_clock.drift_ppm,
        temperature_c=temperature_c,
        level=runtime.level.name,
    )
