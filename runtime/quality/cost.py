"""Measures what a picture costs at each quality level when nothing else runs.

In: the levels, their networks and the preprocessor of a run. Out: a `LevelCost` for each. Noise
and something like speech go through the pipeline, all of it: what networks take does not depend
on what they see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ...engines.base import Engine
from ...engines.bundles import Level, Manifest
from ...engines.face_tracker import FaceBox
from ...kernels import Preprocessor
from ...kernels.spec import MelSpec
from ..clock import Clock
from ..messages import Float32, VideoFrame, Window
from ..perception import Pipeline
from .controller import LevelCost
from .levels import RunLevel

MIN_COST_MS, MAX_COST_MS = 1e-3, 60_000.0
HEIGHT_PX, WIDTH_PX, FACE_PX = 720, 1280, 320
"""Of the picture and the face in it."""
FRAMES_PER_ROUND = 4
"""In a row at one level, the voice due on every other one."""
MIN_ROUNDS, MAX_ROUNDS = 2, 200
"""Over all levels, so that what disturbs one disturbs the others too. The first is not counted."""
STEP_MS = 33
SYLLABLE_S = 0.25


@dataclass(slots=True)
class _CostGroup:
    """Levels whose pictures cost the same, but for which of them use the voice."""

    level: Level
    engines: Mapping[str, Engine]
    base_ms: list[float] = field(default_factory=list)
    face_ms: list[float] = field(default_factory=list)
    with_voice_ms: list[float] = field(default_factory=list)


def measure_levels(
    levels: Sequence[RunLevel],
    manifest: Manifest,
    preprocessor: Preprocessor,
    clock: Clock,
    seconds: float,
) -> tuple[LevelCost, ...]:
    """Takes about `seconds`, or two rounds on a machine that is slow. `preprocessor.mel` must be
    without sound, and is left so. Raises EngineError."""
    kinds = _group_levels(levels)
    first = levels[0]
    pipeline = Pipeline(
        manifest, first.engines, preprocessor, first.level, clock, min_level_db=-100.0
    )
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    mel = preprocessor.mel
    try:
        mel.push(_synthesize_syllables(mel.spec))
        end_ns = clock.now_ns() + round(seconds * 1e9)
        num_rounds = num_measured = 0
        while num_rounds < MIN_ROUNDS or (num_rounds < MAX_ROUNDS and clock.now_ns() < end_ns):
            for kind in kinds.values():
                pipeline.use_level(kind.level, kind.engines)
                for _ in range(FRAMES_PER_ROUND):
                    window = _make_window(image, num_measured, mel.num_columns)
                    _measure_one(kind, pipeline, window, clock, counts=num_rounds > 0)
                    num_measured += 1
            num_rounds += 1
    finally:
        mel.restart(0)
    return tuple(_summarise_cost(one, kinds[cost_key(one)]) for one in levels)


def cost_key(one: RunLevel) -> tuple[int, int]:
    """The same for levels whose pictures cost the same, but for the voice."""
    return one.level.face_px, id(one.engines)


def _group_levels(levels: Sequence[RunLevel]) -> dict[tuple[int, int], _CostGroup]:
    kinds: dict[tuple[int, int], _CostGroup] = {}
    for one in levels:
        which = cost_key(one)
        voice = one.level.voice or (which in kinds and kinds[which].level.voice)
        level = replace(one.level, voice=voice, voice_hop_ms=2 * STEP_MS)
        kinds[which] = _CostGroup(level, one.engines)
    return kinds


def _make_window(image: NDArray[np.uint8], index: int, end_column: int) -> Window:
    t_ns = index * STEP_MS * 1_000_000
    corner = (WIDTH_PX - FACE_PX) / 2, (HEIGHT_PX - FACE_PX) / 2
    face = FaceBox(*corner, FACE_PX, 1.0, t_ns)
    return Window(t_ns, VideoFrame(t_ns, index, image), face, 0.0, end_column, 0, 0)


def _synthesize_syllables(spec: MelSpec) -> Float32:
    """Noise that comes and goes as syllables do, for one window."""
    num_samples = spec.window + (spec.num_frames - 1) * spec.hop
    at_s = np.arange(num_samples) / spec.sample_rate_hz
    loudness = np.where(at_s // SYLLABLE_S % 2 == 0, 0.3, 0.003)
    noise = np.random.default_rng(1).uniform(-1, 1, num_samples)
    return (loudness * noise).astype(np.float32)


def _measure_one(
    kind: _CostGroup, pipeline: Pipeline, window: Window, clock: Clock, counts: bool
) -> None:
    """Divided as the controller divides it: into the face network, the voice and all else."""
    with_voice = pipeline.is_voice_due(window.t_ns)
    now_ns = clock.now_ns()
    estimate = pipeline.estimate(window, now_ns, now_ns)
    stages_us = estimate.stages_us
    work_ms = (estimate.latency_us - stages_us["wait"] - stages_us["sync"]) / 1e3
    if not counts:
        return
    if with_voice:
        kind.with_voice_ms.append(work_ms)
    else:
        face_ms = stages_us["face"] / 1e3
        kind.face_ms.append(face_ms)
        kind.base_ms.append(work_ms - face_ms)


def _summarise_cost(one: RunLevel, kind: _CostGroup) -> LevelCost:
    """What the voice adds is all that such pictures take longer, its input too."""
    base_ms, face_ms = _lower_quartile(kind.base_ms), _lower_quartile(kind.face_ms)
    voice_ms = 0.0
    if one.level.voice and kind.with_voice_ms:
        voice_ms = max(0.0, _lower_quartile(kind.with_voice_ms) - base_ms - face_ms)
    base_ms = max(base_ms, MIN_COST_MS)
    return LevelCost(one.level.name, round(base_ms, 4), round(face_ms, 4), round(voice_ms, 4))


def _lower_quartile(values_ms: Sequence[float]) -> float:
    """A disturbance only ever adds, so up to three pictures of four may be disturbed and this still
    says what an undisturbed one takes. The smallest value would be a stroke of luck."""
    return sorted(values_ms)[len(values_ms) // 4]
