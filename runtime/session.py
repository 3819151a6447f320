"""Opens what a run needs: the checked bundle, its proven networks, preprocessing, the finder.

What is said while TensorRT builds an engine: to systemd, to the log, to who looks on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ..engines.base import Feed, GpuHangsError, Report, null_reporter
from ..engines.bundles import Bundle, BundleChoice, Level, Manifest, choose_bundle
from ..engines.face_tracker import FaceTracker
from ..kernels import Preprocessor, open_preprocessor
from .clock import Clock
from .config import Config
from .messages import CapturePath, Sink, Window
from .perception import (
    FrameRateLimiter,
    Pipeline,
    Synchroniser,
    one_opencv_thread,
    open_detector,
)
from .quality import (
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


@dataclass(slots=True)
class Runtime:
    """What both ways of running share."""

    choice: BundleChoice
    """Of the bundle, which is on trial after an update."""
    levels: Sequence[RunLevel]
    """Those that can run here, best first."""
    pipeline: Pipeline
    synchroniser: Synchroniser
    face_tracker: FaceTracker
    latency: LatencyLog
    trace: Trace
    clock: Clock
    rate_limiter: FrameRateLimiter = field(default_factory=FrameRateLimiter)
    quality: QualityController | None = None
    """None when the level is pinned, and in a replay."""
    level_switches: int = 0
    dropped_frames: int = 0
    skew_ns: int = 0
    """Of the newest window."""
    on_gpu: bool = False
    """The GPU reads the pictures."""
    capture_path: CapturePath | None = None
    """How the pictures of a live run came in, as it was at its end; None without any."""
    _level_index: int = 0
    _published_ns: tuple[int, int] = (0, 0)
    """From when to when the sinks took the newest estimate."""

    @property
    def bundle(self) -> Bundle:
        return self.choice.bundle

    @property
    def level(self) -> Level:
        return self.levels[self._level_index].level

    @property
    def engines(self) -> Mapping[str, str]:
        """What each network runs on, such as "tensorrt fp16"."""
        networks = self.levels[self._level_index].engines
        return {name: f"{one.name} {one.precision}" for name, one in networks.items()}

    def use_level(self, index: int) -> None:
        """From the next picture on."""
        self._level_index = index
        level = self.level
        self.pipeline.use_level(level, self.levels[index].engines)
        self.face_tracker.period_ns = round(1e9 / level.face_find_hz)
        self.rate_limiter.set_rate(level.camera_fps)

    def process(
        self, window: Window, captured_ns: int, woke_ns: int, sinks: Sequence[Sink]
    ) -> None:
        """Estimate and publish one window; the times are on `clock`."""
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
        self.skew_ns = window.skew_ns
        if self.quality is not None:
            stages_us = estimate.stages_us
            waited_us = stages_us["wait"] + stages_us["sync"]
            work_us = estimate.latency_us - waited_us
            if window.frame is None:
                waited_us = 0.0  # how old the newest sound is
            self._control_quality(self.quality, now_ns, waited_us / 1e3, work_us / 1e3, stages_us)

    def _control_quality(
        self,
        quality: QualityController,
        now_ns: int,
        waited_ms: float,
        work_ms: float,
        stages_us: Mapping[str, float],
    ) -> None:
        switch = quality.observe(
            now_ns,
            waited_ms,
            work_ms,
            face=stages_us["face"] > 0,
            voice=stages_us["voice"] > 0,
        )
        if switch is not None:
            before = self.level.name
            self.use_level(switch.level)
            self.level_switches += 1
            text = f"level {before} -> {self.level.name}: {switch.reason}"
            self.trace.add_event(now_ns, text)
            log.warning("%s", text)


def exit_immediately(reason: str) -> NoReturn:
    """Leave without freeing anything, which would hang as the GPU does; systemd starts anew."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(EXIT_GPU_HANGS)


@contextmanager
def open_runtime(
    config: Config, clock: Clock, report: Report = null_reporter, *, controlled: bool = False
) -> Iterator[Runtime]:
    """Verify the bundle, open and prove the engines, warm everything up. `report` is told while
    TensorRT builds an engine, which takes minutes. With `controlled`, and no level in the
    configuration, the level follows what the machine can do; else it stays as it is."""
    detector = open_detector(config.face.yunet_file)  # before a start of the bundle is counted
    choice = choose_bundle(
        config.bundle, config.public_key, starting=controlled and is_service(os.environ)
    )
    bundle, manifest = choice.bundle, choice.bundle.manifest
    config = drop_unknown_level(config, bundle)
    with ExitStack() as stack:
        stack.enter_context(one_opencv_thread())
        levels = open_levels(stack, config, bundle, report, only_one=not controlled)
        preprocessor = stack.enter_context(open_preprocessor_for(levels, manifest))
        for one in levels:
            for name, feed in warmup_inputs(one, preprocessor).items():
                one.engines[name].warm_up(feed)
        best = levels[0]
        pipeline = Pipeline(
            manifest,
            best.engines,
            preprocessor,
            best.level,
            clock,
            config.output.smoothing_s,
            config.voice.min_level_db,
        )
        synchroniser = Synchroniser(preprocessor.mel, config.sync.max_wait_ms)
        runtime = Runtime(
            choice,
            levels,
            pipeline,
            synchroniser,
            FaceTracker(detector, config.face.lost_after_s),
            LatencyLog(config.budget_ms),
            Trace([one.level.name for one in levels]),
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


def is_service(environment: Mapping[str, str]) -> bool:
    """Whether systemd has started us, as a service that tells when it is ready. What a person runs
    beside it says nothing about a bundle's trial, whether it fails or not."""
    return bool(environment.get("NOTIFY_SOCKET"))


def open_preprocessor_for(levels: Sequence[RunLevel], manifest: Manifest) -> Preprocessor:
    """The one whose output the levels' networks can read."""
    # Only TensorRT reads what a kernel has left in the GPU's memory.
    on_gpu = all(one.engines[name].name == "tensorrt" for one in levels for name in manifest.models)
    return open_preprocessor("auto" if on_gpu else "cpu", manifest.image, manifest.mel)


def warmup_inputs(one: RunLevel, preprocessor: Preprocessor) -> dict[str, Feed]:
    """Made of nothing seen and nothing heard, but in the very arrays that a frame will bring: a
    CUDA graph is captured for their addresses."""
    feeds: dict[str, Feed] = {}
    side = one.level.face_px
    if "face" in one.engines:
        blank = np.zeros((side, side, 3), np.uint8)
        image = preprocessor.face(blank, (0.0, 0.0, float(side)), side)
        feeds["face"] = {"image": image}
    if "voice" in one.engines:
        mel, mask = preprocessor.mel.window()
        feeds["voice"] = {"mel": mel, "mask": mask}
    return feeds


EXTEND_TIMEOUT_S = 60
"""What systemd is asked to wait for the next word; there is one every few seconds."""


def report_build_progress(text: str, watchdog: Watchdog | None = None) -> None:
    """One line. A terminal gets it too: minutes without a word look like a program that hangs."""
    if watchdog is not None:
        watchdog.extend_timeout(text, EXTEND_TIMEOUT_S)
    if sys.stderr.isatty() and not log.isEnabledFor(logging.INFO):
        sys.stderr.write(f"{text}\n")
    log.info("%s", text)
