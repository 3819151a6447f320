"""Opens what a run needs: the checked bundle, its proven networks, preprocessing, the finder."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from msgspec.structs import replace

from ..engines import ENGINES, open_engine
from ..engines.base import Engine, EngineError, GpuHangsError, Report, say_nothing
from ..engines.bundle import DEFAULT_BUNDLE, Bundle, Level, load_bundle
from ..engines.golden import prove_engine
from ..engines.plan import BuildOptions
from ..kernels import Preprocessor, open_preprocessor
from .clock import Clock
from .config import Config, ConfigError
from .faces import FaceFinder, open_detector
from .latency import LatencyLog
from .messages import CapturePath, Sink, Window
from .pipeline import Pipeline
from .sync import Synchroniser

log = logging.getLogger(__name__)

EXIT_GPU_HANGS = 3


@dataclass(slots=True)
class Runtime:
    """What both ways of running share."""

    bundle: Bundle
    level: Level
    pipeline: Pipeline
    synchroniser: Synchroniser
    finder: FaceFinder
    latency: LatencyLog
    clock: Clock
    dropped_frames: int = 0
    skew_ns: int = 0
    """Of the newest window."""
    on_gpu: bool = False
    """The GPU reads the pictures."""
    engines: Mapping[str, str] = field(default_factory=dict)
    """What each network runs on, such as "tensorrt fp16"."""
    capture_path: CapturePath | None = None
    """How the pictures of a live run came in, as it was at its end; None without any."""

    def process(
        self, window: Window, captured_ns: int, woke_ns: int, sinks: Sequence[Sink]
    ) -> None:
        """Estimate and publish one window; the times are on `clock`."""
        try:
            estimate = self.pipeline.estimate(window, captured_ns, woke_ns)
        except GpuHangsError as error:
            end_at_once(str(error))
        self.latency.add(estimate.latency_us, estimate.stages_us)
        self.dropped_frames += window.dropped_frames
        self.skew_ns = window.skew_ns
        before = self.clock.now_ns()
        for sink in sinks:
            sink.publish(estimate)
        self.pipeline.note_published((self.clock.now_ns() - before) / 1e3)


def end_at_once(reason: str) -> NoReturn:
    """Leave without freeing anything, which would hang as the GPU does; systemd starts anew."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(EXIT_GPU_HANGS)


def find_level(bundle: Bundle, name: str) -> Level:
    """The quality level called `name`, or the best. Raises ConfigError."""
    levels = bundle.manifest.levels
    for level in levels:
        if name in ("", level.name):
            return level
    raise ConfigError(f"level is {name!r}, allowed: {', '.join(level.name for level in levels)}")


@contextmanager
def open_runtime(config: Config, clock: Clock, report: Report = say_nothing) -> Iterator[Runtime]:
    """Verify the bundle, open and prove the engines, warm everything up. `report` is told while
    TensorRT builds an engine, which takes minutes."""
    bundle = load_bundle(Path(config.bundle) if config.bundle else DEFAULT_BUNDLE)
    manifest = bundle.manifest
    level = find_level(bundle, config.level)
    if config.engines.name not in ENGINES:
        raise ConfigError(f"engines.name is {config.engines.name!r}, allowed: {', '.join(ENGINES)}")
    detector = open_detector(config.face.yunet_file)
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for network in manifest.networks:
            engines[network] = stack.enter_context(_open_network(config, bundle, network, report))
        # Only TensorRT reads what a kernel has left in the GPU's memory.
        on_gpu = all(engines[name].name == "tensorrt" for name in manifest.models)
        wanted = "auto" if on_gpu else "cpu"
        preprocessor = stack.enter_context(open_preprocessor(wanted, manifest.image, manifest.mel))
        _warm_up(engines, preprocessor, level)
        pipeline = Pipeline(
            manifest,
            engines,
            preprocessor,
            level,
            clock,
            config.output.smoothing_s,
            config.voice.min_level_db,
        )
        synchroniser = Synchroniser(preprocessor.mel, config.sync.max_wait_ms)
        try:
            yield Runtime(
                bundle,
                level,
                pipeline,
                synchroniser,
                FaceFinder(detector, config.face.lost_after_s),
                LatencyLog(config.budget_ms),
                clock,
                on_gpu=preprocessor.name == "cuda",
                engines={name: f"{one.name} {one.precision}" for name, one in engines.items()},
            )
        finally:
            pipeline.wipe()
            synchroniser.ring.clear()


def _open_network(config: Config, bundle: Bundle, network: str, report: Report) -> Engine:
    """Open and prove; "auto" falls back from a TensorRT engine that answers wrongly. Raises
    EngineError."""
    chosen = config.engines
    options = BuildOptions(
        (config.level,) if config.level else (), chosen.dla_core if chosen.dla_core >= 0 else None
    )
    engine = open_engine(
        chosen.name, bundle, network, chosen.num_threads, chosen.precision, options, report
    )
    if chosen.name != "null":
        try:
            prove_engine(engine, bundle, network)
        except EngineError as error:
            engine.close()
            if (chosen.name, engine.name) != ("auto", "tensorrt"):
                raise
            log.warning("running on ONNX Runtime instead of TensorRT: %s", error)
            on_onnx = replace(config, engines=replace(chosen, name="onnx"))
            return _open_network(on_onnx, bundle, network, report)
    return engine


def _warm_up(engines: Mapping[str, Engine], preprocessor: Preprocessor, level: Level) -> None:
    """From pixels and sound to answers, on the very arrays that a frame will bring: a CUDA graph
    is captured for their addresses."""
    side = level.face_px
    blank = np.zeros((side, side, 3), np.uint8)
    if "face" in engines:
        image = preprocessor.face(blank, (0.0, 0.0, float(side)), side)
        engines["face"].warm_up({"image": image})
    if "voice" in engines:
        mel, mask = preprocessor.mel.window()
        engines["voice"].warm_up({"mel": mel, "mask": mask})
