"""A live run: camera and microphone in, estimates out to the sinks.

The main thread waits for each frame, runs the networks and publishes. Threads beside it read the
devices, search faces and monitor health. All of them end with the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from ..engines.base import EngineError
from ..engines.bounded_run import stopping_when
from .capture import Sources, WaitPolicy, open_sources, show_source
from .clock import MonotonicClock
from .config import Config, ConfigError
from .health import Components, Monitor, open_monitor
from .messages import (
    AudioSource,
    BackgroundWorker,
    Health,
    Recorder,
    RunDisplay,
    RunObserver,
    Screen,
    Sender,
    Sink,
    SinkClosed,
    VideoSource,
)
from .perception import (
    EstimateTimer,
    FaceSearch,
    FrameRing,
    Synchroniser,
    find_shown,
)
from .service import (
    HELPER_PRIORITY,
    Indicator,
    IndicatorError,
    Watchdog,
    gc_frozen,
    list_threads,
    open_indicator,
    raise_thread_priorities,
    realtime_priority,
    run_in_background,
    switching_every,
)
from .session import Runtime, open_runtime, report_build_progress
from .telemetry import TraceWriter
from .update_check import StateDisk, decide_trial

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 5e-4
"""How long a helper thread may hold the interpreter while the main thread waits for it. Python's
default of 5 ms raises the median latency by a third on two cores."""
JOIN_TIMEOUT_S = 5.0


class StoppedDuringStart(Exception):
    """`LiveRun.stop` was called while the networks were opened, or an engine was being built."""


class LiveRun:
    """One run in real time. `run` blocks; `stop` is safe from any thread and signal handler."""

    def __init__(
        self,
        config: Config,
        sinks: Sequence[Sink],
        *,
        workers: Sequence[BackgroundWorker] = (),
        screens: Sequence[Screen] = (),
        displays: Sequence[RunDisplay] = (),
        observers: Sequence[RunObserver] = (),
        recorders: Sequence[Recorder] = (),
        senders: Sequence[Sender] = (),
        given_sources: Sources | None = None,
        on_health: Callable[[Health], None] | None = None,
        on_open: Callable[[Runtime], None] | None = None,
    ) -> None:
        """`workers` ... `senders` are the sinks with these capabilities. `given_sources` replaces
        the configured sources; the run closes it. `on_open` is called when everything is open,
        before the first frame is read."""
        self._config = config
        self._sinks = sinks
        self._workers = workers
        self._screens = screens
        self._displays = displays
        self._observers = observers
        self._recorders = recorders
        self._senders = senders
        self._given_sources = given_sources
        self._on_health = on_health
        self._on_open = on_open
        self.source_ended = False
        """The run ended with its source, not by `stop` and not at its time."""
        self._stop = threading.Event()
        self._stopping = False
        self._frames = FrameRing()
        self._reading: set[str] = set()
        """Threads whose source goes on. A video may end before its audio, or the reverse."""
        self._clock = MonotonicClock()
        self._failure: BaseException | None = None
        self._trace_writer: TraceWriter | None = None

    def stop(self) -> None:
        """End the run."""
        if not self._stopping:  # a plain flag: a signal may interrupt `Event.set` in this thread
            self._stopping = True
            self._stop.set()
            self._frames.end()

    def _begin_sinks(self, runtime: Runtime, sources: Sources) -> None:
        """Tell the sinks what is open, and let displays fetch frames."""
        info = runtime.describe(show_source(sources.name), has_audio=sources.audio is not None)
        for observer in self._observers:
            observer.begin(info)
        if self._config.screen.picture:
            for screen in self._screens:
                screen.show_preview(self._frames.newest)
        for display in self._displays:
            display.show_frames(self._frames.newest)

    def request_trace(self) -> None:
        """Write a trace soon, if `trace.folder` is configured. Safe in a signal handler."""
        if self._trace_writer is not None:
            self._trace_writer.request()

    def run(self, seconds: float | None = None) -> Runtime:
        """Run until the source ends, `stop`, or `seconds` after the first frame or sample.

        Raises ConfigError, EngineError, SourceError, OutputError, IndicatorError,
        StoppedDuringStart, and any error of a thread."""
        folder = self._config.trace.folder
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"trace.folder is {folder!r}: no such folder")
        with ExitStack() as stack:
            watchdog = stack.enter_context(Watchdog(self._clock))
            indicator = stack.enter_context(open_indicator(self._config.indicator, self._screens))
            runtime = stack.enter_context(self._open_runtime(watchdog))
            stack.enter_context(decide_trial(runtime))
            self._turn_on(indicator)
            sources = stack.enter_context(self._open_sources(runtime.on_gpu, indicator))
            search = FaceSearch(runtime.face_tracker, self._clock)
            monitor = stack.enter_context(
                self._open_monitor(runtime, watchdog, sources, search, indicator)
            )
            stack.enter_context(switching_every(SWITCH_INTERVAL_S))
            self._begin_sinks(runtime, sources)
            if self._on_open is not None:
                self._on_open(runtime)
            stack.enter_context(gc_frozen(self._config.realtime.freeze))
            threads: list[threading.Thread] = []
            try:
                self._start_threads(runtime, search, sources, indicator, monitor, threads)
                stack.enter_context(realtime_priority(self._config.realtime.priority))
                watchdog.ready(indicator.fault or f"reading {sources.name}")
                self._loop(
                    runtime,
                    search,
                    monitor,
                    lambda: not indicator.lit or sources.is_reopening,
                    seconds,
                )
            except SinkClosed:
                log.info("the reader of the output closed it")
            finally:
                if sources.video is not None:
                    runtime.capture_path = sources.video.path
                self.stop()
                watchdog.stopping()
                if self._given_sources is None:  # the owner of given sources may replay them
                    self._frames.wipe()  # before the camera frees the memory
                sources.close()
                for thread in threads:
                    thread.join(JOIN_TIMEOUT_S)
                    if thread.is_alive():
                        log.error("thread %s did not stop", thread.name)
            if self._failure is not None:
                raise self._failure
        return runtime

    def _capture_video(self, source: VideoSource, indicator: Indicator, runtime: Runtime) -> None:
        """Body of the thread that reads the camera."""
        next_index: int | None = None
        with realtime_priority(self._config.realtime.priority):
            while not self._stop.is_set():
                frame = source.read()
                if frame is None:
                    break
                if next_index is not None:
                    runtime.missing_frames += frame.index - next_index
                next_index = frame.index + 1
                # `read` may have waited for hours: the indicator is checked after it.
                if indicator.lit and runtime.rate_limiter.accepts(frame.t_ns):
                    self._frames.put(frame)

    def _capture_audio(
        self, source: AudioSource, indicator: Indicator, synchroniser: Synchroniser
    ) -> None:
        """Body of the thread that reads the microphone."""
        with realtime_priority(self._config.realtime.priority):
            while not self._stop.is_set():
                chunk = source.read()
                if chunk is None:
                    break
                if indicator.lit:
                    synchroniser.add_audio(chunk)

    def _search_faces(self, search: FaceSearch) -> None:
        """Body of the thread that searches faces in the newest frame."""
        with realtime_priority(self._config.realtime.priority, HELPER_PRIORITY) as realtime:
            if not realtime:
                run_in_background()
            search.run(self._frames.newest, self._stop)

    def _loop(
        self,
        runtime: Runtime,
        search: FaceSearch,
        monitor: Monitor,
        idle_expected: Callable[[], bool],
        seconds: float | None,
    ) -> None:
        """Estimate and publish each newest frame. While frames are missing, estimate from audio
        and from the frame that is still shown.

        `idle_expected` returns whether there is a known reason for the absence of frames."""
        clock, synchroniser = self._clock, runtime.synchroniser
        timer = EstimateTimer()
        while not self._stop.is_set():
            frame, dropped = self._frames.take(timer.find_wait_ns(clock.now_ns()) / 1e9)
            woke_ns = clock.now_ns()
            if frame is not None:
                t_ns = timer.time_frame(frame.t_ns, woke_ns, frame.shown_ns)
                if t_ns is None:
                    runtime.dropped_frames += dropped + 1
                    continue
                captured_ns = frame.t_ns
            else:
                if idle_expected():
                    monitor.progress()
                timer.note_audio(synchroniser.first_audio_ns())
                ended = self._frames.ended  # read before the audio: nothing comes after it
                audio_ns = synchroniser.fresh_audio_ns(woke_ns)
                if ended and (audio_ns is None or audio_ns < timer.due_ns):
                    self.source_ended = not self._stop.is_set()
                    return
                if not ended and not timer.is_due(woke_ns):
                    continue
                t_ns = timer.time_turn(woke_ns, audio_ns)
                if t_ns is None:
                    continue
                captured_ns = t_ns
                frame = find_shown(self._frames.newest(), t_ns)
            if seconds is not None and t_ns - timer.start_ns >= seconds * 1e9:
                return
            voice_due = runtime.pipeline.is_voice_due(t_ns)
            if frame is not None:
                search.refresh(frame)
            faces = runtime.face_tracker.faces_for(frame) if frame is not None else ()
            window = synchroniser.window(t_ns, frame, faces, voice_due, dropped)
            runtime.process(window, captured_ns, woke_ns, self._sinks)
            monitor.progress()

    def _start_threads(
        self,
        runtime: Runtime,
        search: FaceSearch,
        sources: Sources,
        indicator: Indicator,
        monitor: Monitor,
        threads: list[threading.Thread],
    ) -> None:
        """Append each thread to `threads` as it starts: a later one may fail to start."""
        bodies: dict[str, Callable[[], None]] = {"monitor": lambda: self._run_monitor(monitor)}
        video, audio = sources.video, sources.audio
        if video is not None:
            bodies["video"] = lambda: self._capture_video(video, indicator, runtime)
            bodies["face-tracker"] = lambda: self._search_faces(search)
        if audio is not None:
            bodies["audio"] = lambda: self._capture_audio(audio, indicator, runtime.synchroniser)
        self._reading = {"video", "audio"} & bodies.keys()
        for name, body in bodies.items():
            thread = threading.Thread(target=self._guard, args=(name, body), name=name, daemon=True)
            thread.start()
            threads.append(thread)

    def _guard(self, name: str, body: Callable[[], None]) -> None:
        """Run the body of a thread. Its error ends the run, and `run` raises it."""
        try:
            body()
            self._reading.discard(name)
            if not self._reading:
                self._frames.end()
        except Exception as error:  # noqa: BLE001  `run` raises it
            if not self._stop.is_set():
                self._failure = error
                self.stop()

    def _run_monitor(self, monitor: Monitor) -> None:
        with realtime_priority(self._config.realtime.priority, HELPER_PRIORITY):
            monitor.run(self._stop)

    @contextmanager
    def _open_runtime(self, watchdog: Watchdog) -> Iterator[Runtime]:
        before = list_threads()
        opened = open_runtime(
            self._config,
            self._clock,
            lambda text: self._report_build(text, watchdog),
            controlled=True,
        )
        with ExitStack() as stack:
            try:
                with stopping_when(self._stop.is_set):
                    runtime = stack.enter_context(opened)
            except EngineError as error:
                if not self._stop.is_set():
                    raise
                raise StoppedDuringStart("stopped while the networks were opened") from error
            if self._config.realtime.priority:
                raise_thread_priorities(list_threads() - before)
            yield runtime

    def _report_build(self, text: str, watchdog: Watchdog) -> None:
        if self._stop.is_set():
            raise StoppedDuringStart("stopped while an engine was being built")
        report_build_progress(text, watchdog)

    def _turn_on(self, indicator: Indicator) -> None:
        """Turn the indicator on before any device opens. Raises IndicatorError, unless the run
        waits for devices: then the monitor tries again."""
        try:
            indicator.turn_on()
        except IndicatorError:
            if not self._config.wait_for_devices:
                raise

    def _open_sources(self, on_gpu: bool, indicator: Indicator) -> Sources:
        if self._given_sources is not None:
            return self._given_sources
        return open_sources(
            self._config.source,
            clock=self._clock,
            for_gpu=on_gpu,
            wait_policy=WaitPolicy(
                self._config.wait_for_devices, capture_allowed=lambda: indicator.lit
            ),
        )

    def _open_monitor(
        self,
        runtime: Runtime,
        watchdog: Watchdog,
        sources: Sources,
        search: FaceSearch,
        indicator: Indicator,
    ) -> AbstractContextManager[Monitor]:
        folder = self._config.trace.folder
        self._trace_writer = TraceWriter(runtime.trace, Path(folder)) if folder else None
        components = Components(
            pollable=(indicator, StateDisk()),
            devices=(*sources.devices, search, runtime.pipeline, *self._recorders),
            workers=self._workers,
            displays=self._screens,
            health_displays=(*self._displays, *self._senders),
            senders=self._senders,
        )
        return open_monitor(
            self._config, runtime, watchdog, self._trace_writer, self._on_health, components
        )
