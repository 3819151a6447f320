"""One run of a scenario, from opening the networks to its figures.

In: a configuration, a scenario, media in memory (or none, for a camera). Out: `MeasuredRun`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil

from ..capture import Media, Playback, Sources
from ..clock import MonotonicClock
from ..config import Config, ConfigError
from ..live import LiveRun
from ..session import Runtime
from .conditions import Conditions
from .disturbance import Disturbance, PhaseScheduler
from .recorder import Recorder
from .scenarios import WARM_UP_S, Phase
from .soak import SoakLog
from .staged_media import StagedMedia
from .summary import summarise_phases, summarize

CAPACITY_MARGIN = 1.2
"""A camera may be that much faster than it was asked to be before the first results are lost."""
EXTRA_ROWS = 100


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """One run."""

    figures: dict[str, Any]
    """As in the JSON file."""
    runtime: Runtime
    """As it was at the end, closed."""
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
    """Run through `phases`. `soak_less_bytes`: look at what the process holds on to, less so many
    bytes. Raises ConfigError when nothing came of it, and what `LiveRun.run` raises."""
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
        director = None
        if disturbance is not None:
            director = stack.enter_context(PhaseScheduler(phases, disturbance, recorder, clock))
        runtime = live.run(WARM_UP_S + seconds)
    recording = recorder.finish(seconds)
    if not recording.frame_rows.size:
        raise ConfigError(f"source {config.source.name}: no result in {seconds:g} s")
    timed = director.phases if director is not None else phases
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


def _play(media: Media, name: str) -> Sources:
    playback = Playback(media, MonotonicClock(), loop=True, background=False)
    return Sources(playback.video, playback.audio, name)
