"""One session of emotion-bench: repeated runs of a scenario, runs beside them, networks alone.

In: a configuration, a scenario and the number of repeats. Out: the report, as in the JSON file.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import replace

from ..board import describe_machine
from ..capture import Media, Playback, Sources, is_camera, open_media, show_source
from ..clock import MonotonicClock
from ..config import Config, ConfigError
from ..live import LiveRun
from ..messages import CapturePath
from ..service import DEVICE_PRIORITY, realtime_permitted
from ..session import Runtime
from ..telemetry import Trace
from .baseline import run_baseline
from .compare import FORMAT
from .conditions import Conditions, read_versions
from .load import PER_CORE, CpuLoad, list_cores
from .micro import time_accounting, time_models
from .recorder import WARM_UP_S, Recorder
from .scenarios import Disturbance, Phase, PhaseScheduler, Scenario
from .soak import SoakLog
from .staged_media import MAX_PRELOAD_BYTES, PreloadedMedia, StagedMedia
from .summary import combine_repeats, summarise_phases, summarize
from .throttle import open_bandwidth

CAPACITY_MARGIN = 1.2
"""A camera may exceed its configured rate by this factor before the oldest results are lost."""
EXTRA_ROWS = 100


@dataclass(frozen=True, slots=True)
class Session:
    """The parameters of a session."""

    config: Config
    scenario: Scenario
    seconds: float
    """Of each run, after its warm-up."""
    fps: float
    repeats: int
    num_processes: int
    """Ordinary processes in the contended scenario. 0: real-time processes, where permitted."""
    quota_cores: float
    """CPU quota in the throttled scenario."""
    baseline: Path | None = None
    """Another program to run on the same source."""


def run_session(session: Session) -> tuple[dict[str, Any], Trace]:
    """Return the report, and the trace of the last run.

    Raises ConfigError for a source that does not fit the scenario, and what a run raises.
    """
    config, scenario, fps = session.config, session.scenario, session.fps
    above_pipeline = session.num_processes == 0 and realtime_permitted(DEVICE_PRIORITY)
    if scenario.name == "throttled" or (scenario.name == "contended" and not above_pipeline):
        # Ordinary load and a quota have no effect on a real-time thread.
        config = replace(config, realtime=replace(config.realtime, priority=False))
    phases = scenario.phases(session.seconds)
    begun_s = time.monotonic()
    media, preloaded_bytes = preload_media(config, scenario, phases, fps)
    with sigterm_as_interrupt(), _open_disturbance(session, above_pipeline) as disturbance:
        prepared_s = time.monotonic() - begun_s
        soak_less_bytes = preloaded_bytes if scenario.name == "soak" else None
        runs = [
            measure(config, phases, fps, media, disturbance, soak_less_bytes)
            for _ in range(session.repeats)
        ]
        rss_mb = psutil.Process().memory_info().rss / 1e6
        beside: dict[str, Any] = {}
        if scenario.compare_pinned and not config.level:
            best = replace(config, level=runs[0].runtime.levels[0].level.name)
            beside["pinned"] = measure(best, phases, fps, media, disturbance).figures
    bundle = runs[0].runtime.bundle
    if session.baseline is not None:
        with sigterm_as_interrupt():
            beside["baseline"] = run_baseline(
                session.baseline,
                config.source.name,
                session.seconds,
                fps,
                bundle.path,
                config.budget_ms,
            )
    report = {
        "format": FORMAT,
        "scenario": scenario.name,
        "source": Path(show_source(config.source.name)).name,
        "fps": fps,
        "seconds": session.seconds,
        **combine_repeats([run.figures for run in runs]),
        "beside": beside,
        "models": time_models(config, bundle),
        "accounting_us": time_accounting(
            [level.level.name for level in runs[0].runtime.levels], config.budget_ms
        ),
        "first_result_s": round(runs[0].first_result_s - prepared_s, 2),
        "rss_mb": round(rss_mb, 1),
        "held_mb": round(preloaded_bytes / 1e6, 1),
        **_describe_run(runs[-1]),
    }
    return report, runs[-1].runtime.trace


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The result of one run."""

    figures: dict[str, Any]
    """Figures as in the JSON file."""
    runtime: Runtime
    """The closed runtime."""
    first_result_s: float
    """From the start of the process."""
    conditions: dict[str, Any]


def measure(
    config: Config,
    phases: Sequence[Phase],
    fps: float,
    media: StagedMedia | None,
    disturbance: Disturbance | None = None,
    soak_less_bytes: int | None = None,
) -> MeasuredRun:
    """Run through `phases` once, from opening the networks to the figures.

    `media` is None for a camera. With `soak_less_bytes` the growth of the process is measured, its
    memory less that many bytes. Raises ConfigError when there was no result, and what
    `LiveRun.run` raises.
    """
    seconds = phases[-1].to_s
    recorder = Recorder(math.ceil((seconds + WARM_UP_S) * fps * CAPACITY_MARGIN) + EXTRA_ROWS)
    clock = MonotonicClock()
    soak = SoakLog(seconds, soak_less_bytes, clock) if soak_less_bytes is not None else None
    conditions = Conditions()
    with ExitStack() as stack:

        def attach(runtime: Runtime) -> None:
            recorder.attach(runtime)
            if disturbance is not None:
                disturbance.attach(runtime)
            if soak is not None:
                stack.enter_context(soak)
            conditions.start()

        given_sources = stack.enter_context(_play(media, config.source.name)) if media else None
        live = LiveRun(config, [recorder], given_sources=given_sources, on_open=attach)
        scheduler = None
        if disturbance is not None:
            scheduler = stack.enter_context(PhaseScheduler(phases, disturbance, recorder, clock))
        runtime = live.run(WARM_UP_S + seconds)
    recording = recorder.finish(seconds)
    if not recording.frame_rows.size:
        raise ConfigError(f"source {show_source(config.source.name)}: no result in {seconds:g} s")
    timed = scheduler.phases if scheduler is not None else phases
    figures = {
        "level": config.level or "auto",
        **summarize(recording, config.budget_ms),
        "phases": summarise_phases(recording, timed, config.budget_ms),
    }
    if disturbance is not None:
        times = [phase["back_at_top_s"] for phase in figures["phases"] if "back_at_top_s" in phase]
        figures["back_at_top_s"] = times
        figures["disturbance"] = disturbance.describe()
    if soak is not None:
        figures["soak"] = soak.describe(recording.lost)
    first_s = recorder.first_at_s - psutil.Process().create_time()
    return MeasuredRun(figures, runtime, first_s, conditions.describe())


def preload_media(
    config: Config, scenario: Scenario, phases: tuple[Phase, ...], fps: float
) -> tuple[StagedMedia | None, int]:
    """Return the media in memory and their size in bytes, none for a camera. Raises
    ConfigError."""
    name = config.source.name
    if is_camera(name):
        return None, 0
    with_faces = any(phase.faces is not None for phase in phases)
    # The images made of the frames need as much again.
    preloaded = PreloadedMedia(
        open_media(config.source), MAX_PRELOAD_BYTES // 2 if with_faces else MAX_PRELOAD_BYTES
    )
    if scenario.stages_media and not (preloaded.has_video and (preloaded.has_audio or with_faces)):
        needed = "video" if with_faces else "video and audio"
        raise ConfigError(f"source {name}: --scenario {scenario.name} needs {needed}")
    media = StagedMedia(preloaded, fps, phases)
    return media, preloaded.preloaded_bytes + media.generated_bytes


def _play(media: Media, name: str) -> Sources:
    playback = Playback(media, MonotonicClock(), loop=True, background=False)
    return Sources(playback.video, playback.audio, name)


def _open_disturbance(
    session: Session, above_pipeline: bool
) -> AbstractContextManager[Disturbance | None]:
    if session.scenario.name == "contended" and above_pipeline:
        return CpuLoad.above_pipeline()
    if session.scenario.name == "contended":
        return CpuLoad(session.num_processes or PER_CORE * len(list_cores()))
    if session.scenario.name == "throttled":
        return open_bandwidth(session.quota_cores)
    return nullcontext()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C, so that load and quota are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread alone
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _describe_run(run: MeasuredRun) -> dict[str, Any]:
    """Return the entries about the run's parts and conditions, as in the JSON file."""
    runtime = run.runtime
    return {
        "capture": describe_capture(runtime.capture_path),
        "engines": dict(runtime.engines),
        "preprocessor": "cuda" if runtime.on_gpu else "cpu",
        "machine": describe_machine(),
        "versions": read_versions(),
        "bundle": runtime.bundle.sha256,
        **run.conditions,
    }


def describe_capture(path: CapturePath | None) -> dict[str, Any]:
    """Return the entry about the capture path, as in the JSON file."""
    return asdict(path) if path is not None else dict.fromkeys(CapturePath.__slots__)
