"""Opens what a run needs, live or replayed.

In: the configuration. Out: a `Runtime` with the checked bundle, its verified networks, the
preprocessor and the face tracker. `Runtime.process` takes a window to the sinks.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ..engines.base import EngineError, Feed, GpuHangsError, Report, null_reporter
from ..engines.bundles import Bundle, BundleChoice, Level, Manifest, choose_bundle
from ..engines.face_detector import make_face_tracker, open_detector
from ..engines.face_tracker import FaceTracker
from ..engines.plain_text import make_plain
from ..engines.speech_tracker import SpeechTracker, open_speech_tracker
from ..kernels import Preprocessor, open_preprocessor
from .clock import Clock
from .config import Config
from .messages import CapturePath, RunInfo, Sink, SourceError, Window
from .perception import (
    FrameRateLimiter,
    Pipeline,
    Synchroniser,
    one_opencv_thread,
    open_yunet,
)
from .quality import (
    LevelSwitch,
    ProfileSetup,
    QualityController,
    RunLevel,
    drop_unknown_level,
    open_levels,
    profile_levels,
)
from .service import Watchdog
from .telemetry import LatencyLog, Trace

log = logging.getLogger(__name__)

EXIT_GPU_HANGS = 3
EXTEND_TIMEOUT_S = 60
"""The start timeout that systemd is asked for with each progress report; reports come every few
seconds."""


SLOW_START_S = 3.0
"""Between two reports of a first start."""
SKEW_LIFE_NS = 2_000_000_000
"""A camera of one frame a second still shows its skew at each poll."""


@dataclass(slots=True)
class Runtime:
    """The state that a live run and a replay share. The main thread owns it."""

    choice: BundleChoice
    """The bundle, and how its trial after an update ends."""
    levels: Sequence[RunLevel]
    """The levels that can run on this machine, best first."""
    pipeline: Pipeline
    synchroniser: Synchroniser
    face_tracker: FaceTracker
    latency: LatencyLog
    trace: Trace
    clock: Clock
    rate_limiter: FrameRateLimiter = field(default_factory=FrameRateLimiter)
    quality: QualityController | None = None
    """None when `level` is configured, and in a replay."""
    level_switches: int = 0
    dropped_frames: int = 0
    """Frames that came and were overwritten unused."""
    missing_frames: int = 0
    """Frames that the source lost, or left out because they were late; for the capture thread."""
    on_gpu: bool = False
    """The GPU preprocesses the frames."""
    capture_path: CapturePath | None = None
    """The capture path at the end of a live run; None before, and without a camera."""
    _level_index: int = 0
    _skew_ns: int = 0
    """Skew of the newest window."""
    _published_ns: tuple[int, int] = (0, 0)
    """Begin and end of the newest publishing."""

    @property
    def bundle(self) -> Bundle:
        return self.choice.bundle

    @property
    def level(self) -> Level:
        return self.levels[self._level_index].level

    @property
    def engines(self) -> Mapping[str, str]:
        """Engine and precision of each network, such as "tensorrt fp16"."""
        engines = self.levels[self._level_index].engines
        return {network: f"{engine.name} {engine.precision}" for network, engine in engines.items()}

    def skew_ns(self, now_ns: int) -> int:
        """Return the skew of the newest window, 0 if that is long ago at `now_ns`."""
        return self._skew_ns if now_ns - self._published_ns[1] <= SKEW_LIFE_NS else 0

    def use_level(self, index: int) -> None:
        """Switch to level `index` from the next frame on."""
        self._level_index = index
        level = self.level
        self.pipeline.use_level(level, self.levels[index].engines)
        self.face_tracker.period_ns = round(1e9 / level.face_find_hz)
        self.rate_limiter.set_rate(level.camera_fps)

    def process(
        self, window: Window, captured_ns: int, woke_ns: int, sinks: Sequence[Sink]
    ) -> None:
        """Estimate and publish one window, and record its times. `captured_ns` and `woke_ns` are
        as in `Pipeline.estimate`. A GPU that hangs ends the process."""
        try:
            estimate = self.pipeline.estimate(window, captured_ns, woke_ns)
        except GpuHangsError as error:
            exit_immediately(str(error))
        before_ns = self.clock.now_ns()
        for sink in sinks:
            sink.publish(estimate)
        now_ns = self.clock.now_ns()
        publish_us = (now_ns - before_ns) / 1e3
        self.pipeline.record_publish_time(publish_us)
        own_stages_us = {**estimate.stages_us, "publish": publish_us}
        began_ns, ended_ns = self._published_ns
        self._published_ns = before_ns, now_ns
        held_up_us = max(0, ended_ns - max(began_ns, captured_ns)) / 1e3
        cause = self.latency.add(estimate.latency_us, own_stages_us, now_ns, held_up_us)
        self.trace.add(
            estimate, captured_ns, woke_ns, window.dropped_frames, cause, publish_us=publish_us
        )
        self.dropped_frames += window.dropped_frames
        self._skew_ns = window.skew_ns
        if self.quality is not None:
            stages_us = estimate.stages_us
            waited_us = stages_us["wait"] + stages_us["sync"]
            work_us = estimate.latency_us - waited_us
            if window.frame is None or captured_ns != window.frame.t_ns:
                waited_us = 0.0  # it is the age of the newest audio, no delay
            switch = self.quality.observe(
                now_ns,
                waited_us / 1e3,
                work_us / 1e3,
                faces=self.pipeline.num_faces,
                voice=stages_us["voice"] > 0,
                present=sum(face.trusted for face in window.faces),
            )
            if switch is not None:
                self._switch_level(switch, now_ns)

    def describe(self, source: str, *, has_audio: bool) -> RunInfo:
        """Return what sinks are told when everything is open."""
        return RunInfo(
            source,
            tuple(self.bundle.manifest.labels),
            has_audio,
            tuple(level.level.name for level in self.levels if not level.level.voice),
        )

    def require_estimates(self, source: str) -> None:
        """Raise SourceError where the source of this name, which has ended, had no estimate."""
        if not self.latency.count:
            raise SourceError(
                f"source {source} ended before the first estimate, which needs a frame or a quarter"
                " of a second of audio"
            )

    def _switch_level(self, switch: LevelSwitch, now_ns: int) -> None:
        before = self.level.name
        self.use_level(switch.level)
        self.level_switches += 1
        text = f"level {before} -> {self.level.name}: {switch.reason}"
        self.trace.add_event(now_ns, text)
        log.warning("%s", text)


def exit_immediately(reason: str) -> NoReturn:
    """Exit with `EXIT_GPU_HANGS` and free nothing, since freeing would hang too; systemd restarts
    the service."""
    print(make_plain(reason), file=sys.stderr, flush=True)
    os._exit(EXIT_GPU_HANGS)


@contextmanager
def open_runtime(
    config: Config, clock: Clock, report: Report = null_reporter, *, controlled: bool = False
) -> Iterator[Runtime]:
    """Choose and check the bundle, open and verify its networks, warm them up.

    `report` receives progress while TensorRT builds an engine, which takes minutes. With
    `controlled`, and no `level` in the configuration, a quality controller chooses the level.
    Otherwise the level is fixed. Raises ConfigError, EngineError and SourceError."""
    # A missing YuNet file must not count as a failed start of the bundle: it is opened first.
    yunet = open_yunet(config.face.yunet_file)
    choice = choose_bundle(
        config.bundle, config.public_key, starting=controlled and is_service(os.environ)
    )
    bundle, manifest = choice.bundle, choice.bundle.manifest
    config = drop_unknown_level(config, bundle)
    with ExitStack() as stack:
        stack.enter_context(one_opencv_thread())
        detector = yunet or open_detector(bundle=bundle)
        levels, preprocessor, speech = open_networks(
            stack, config, bundle, report, only_one=not controlled
        )
        best = levels[0]
        pipeline = Pipeline(
            manifest,
            best.engines,
            preprocessor,
            best.level,
            clock,
            config.output.smoothing_s,
            config.voice.min_level_db,
            config.faces.max,
            speech,
        )
        synchroniser = Synchroniser(
            preprocessor.mel, config.sync.max_wait_ms if controlled else 0.0, speech
        )
        runtime = Runtime(
            choice,
            levels,
            pipeline,
            synchroniser,
            make_face_tracker(detector, config.face.lost_after_s, config.faces.max),
            LatencyLog(config.budget_ms),
            Trace([run_level.level.name for run_level in levels]),
            clock,
            on_gpu=preprocessor.name == "cuda",
        )
        runtime.use_level(0)
        if controlled and not config.level:
            setup = ProfileSetup(
                bundle,
                levels,
                preprocessor,
                config.engines.num_threads,
                clock,
                config.engines.dla_core,
            )
            runtime.quality = QualityController(profile_levels(setup), config.budget_ms)
        try:
            yield runtime
        finally:
            pipeline.wipe()
            synchroniser.wipe()
            runtime.face_tracker.wipe()


def open_networks(
    stack: ExitStack, config: Config, bundle: Bundle, report: Report, *, only_one: bool
) -> tuple[Sequence[RunLevel], Preprocessor, SpeechTracker | None]:
    """Open, verify and warm up what a bundle brings: the networks of its levels, the preprocessor
    for their input, the speech tracker. All close with `stack`. Raises as `open_levels` does."""
    levels = open_levels(stack, config, bundle, report, only_one=only_one)
    try:
        with reporting_slow_start(report):
            preprocessor = stack.enter_context(open_preprocessor_for(levels, bundle.manifest))
            for run_level in levels:
                for network, inputs in warmup_inputs(run_level, preprocessor).items():
                    run_level.engines[network].warm_up(inputs)
            warm_up_several_faces(levels, preprocessor, config.faces.max)
    except ValueError as error:
        raise EngineError(f"{bundle.path}: a network does not fit its level: {error}") from error
    speech = open_speech_tracker(bundle) if config.engines.name != "null" else None
    if speech is not None:
        stack.callback(speech.wipe)
    return levels, preprocessor, speech


@contextmanager
def reporting_slow_start(report: Report) -> Iterator[None]:
    """Report every `SLOW_START_S` that kernels are being compiled: the first start of an
    installation takes up to a minute, and later ones are over before."""
    done = threading.Event()

    def report_until_done() -> None:
        waited_s = 0.0
        while not done.wait(SLOW_START_S):
            waited_s += SLOW_START_S
            with suppress(Exception):  # a run that is stopped says so elsewhere
                report(f"compiling kernels for this machine, once: {waited_s:.0f} s")

    thread = threading.Thread(target=report_until_done, name="slow-start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_service(environment: Mapping[str, str]) -> bool:
    """Return whether systemd started this process as a service of type notify. Only its starts
    count in the trial of a bundle."""
    return bool(environment.get("NOTIFY_SOCKET"))


def open_preprocessor_for(levels: Sequence[RunLevel], manifest: Manifest) -> Preprocessor:
    """Open the preprocessor whose output all networks of `levels` can read."""
    # Only TensorRT reads input from GPU memory.
    on_gpu = all(
        run_level.engines[network].name == "tensorrt"
        for run_level in levels
        for network in manifest.models
    )
    return open_preprocessor("auto" if on_gpu else "cpu", manifest.image, manifest.mel)


def warmup_inputs(run_level: RunLevel, preprocessor: Preprocessor) -> dict[str, Feed]:
    """Return an input for each network: a black face, empty audio. They lie in the arrays that the
    preprocessor fills for each frame, because a CUDA graph is captured for their addresses."""
    inputs: dict[str, Feed] = {}
    side = run_level.level.face_px
    if "face" in run_level.engines:
        blank = np.zeros((side, side, 3), np.uint8)
        image = preprocessor.faces(blank, [(0.0, 0.0, float(side), 0.0)], side)
        inputs["face"] = {"image": image}
    if "voice" in run_level.engines:
        mel, mask = preprocessor.mel.window()
        inputs["voice"] = {"mel": mel, "mask": mask}
    return inputs


def warm_up_several_faces(
    levels: Sequence[RunLevel], preprocessor: Preprocessor, max_faces: int
) -> None:
    """Run the face networks on each number of faces that may come, so that no frame allocates the
    buffers for it, or captures a CUDA graph."""
    done = set()
    for run_level in levels:
        engine, side = run_level.engines.get("face"), run_level.level.face_px
        for count in range(2, min(run_level.level.faces, max_faces) + 1):
            if engine is None or (id(engine), side, count) in done:
                continue
            done.add((id(engine), side, count))
            blank = np.zeros((side, side, 3), np.uint8)
            feed = {"image": preprocessor.faces(blank, [(0.0, 0.0, side, 0.0)] * count, side)}
            # The second run captures the graph.
            engine.warm_up(feed, 2 if engine.name == "tensorrt" else 1)


def report_build_progress(text: str, watchdog: Watchdog | None = None) -> None:
    """Report one line while an engine is built: to systemd, to the log and to a terminal."""
    if watchdog is not None:
        watchdog.extend_timeout(text, EXTEND_TIMEOUT_S)
    if sys.stderr.isatty() and not log.isEnabledFor(logging.INFO):
        sys.stderr.write(f"{text}\n")
    log.info("%s", text)
