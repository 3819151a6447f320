"""Measures the cost of a frame at each quality level when nothing else runs.

In: the levels, their networks and the preprocessor of a run. Out: a `LevelCost` for each level. The
whole pipeline runs on image noise and synthetic syllables, because the time of a network does not
depend on its input.
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
"""Size of the frame and of the face in it."""
FRAMES_PER_ROUND = 5
"""Frames in a row at one level. The voice network is due on every second of the first four. The
last one has `SEVERAL` faces, or as many as the level allows, and no voice."""
SEVERAL = 4
MIN_ROUNDS, MAX_ROUNDS = 2, 200
"""Rounds over all levels, so that a disturbance affects all of them. The first is a warm-up."""
STEP_MS = 33
SYLLABLE_S = 0.25


@dataclass(slots=True)
class _CostGroup:
    """Levels with the same cost, except that some do not use the voice."""

    level: Level
    engines: Mapping[str, Engine]
    base_ms: list[float] = field(default_factory=list)
    face_ms: list[float] = field(default_factory=list)
    with_voice_ms: list[float] = field(default_factory=list)
    with_faces_ms: list[float] = field(default_factory=list)


def measure_levels(
    levels: Sequence[RunLevel],
    manifest: Manifest,
    preprocessor: Preprocessor,
    clock: Clock,
    seconds: float,
) -> tuple[LevelCost, ...]:
    """Measure for about `seconds`, at least two rounds. `preprocessor.mel` must be empty, and is
    empty afterwards. Raises EngineError."""
    groups = _group_levels(levels)
    first = levels[0]
    pipeline = Pipeline(
        manifest,
        first.engines,
        preprocessor,
        first.level,
        clock,
        min_level_db=-100.0,
        max_faces=SEVERAL,
    )
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    mel = preprocessor.mel
    try:
        mel.push(_synthesize_syllables(mel.spec))
        end_ns = clock.now_ns() + round(seconds * 1e9)
        num_rounds = num_measured = 0
        while num_rounds < MIN_ROUNDS or (num_rounds < MAX_ROUNDS and clock.now_ns() < end_ns):
            for group in groups.values():
                pipeline.use_level(group.level, group.engines)
                for number in range(FRAMES_PER_ROUND):
                    is_last = number == FRAMES_PER_ROUND - 1
                    num_faces = min(SEVERAL, group.level.faces) if is_last else 1
                    window = _make_window(
                        pipeline, image, num_measured, mel.num_columns, num_faces, not is_last
                    )
                    _measure_frame(group, pipeline, window, clock, counts=num_rounds > 0)
                    num_measured += 1
            num_rounds += 1
    finally:
        mel.restart(0)
    return tuple(_summarise(run_level.level, groups[cost_key(run_level)]) for run_level in levels)


def cost_key(run_level: RunLevel) -> tuple[int, int]:
    """Return a key that is equal for levels with the same cost, the voice aside."""
    return run_level.level.face_px, id(run_level.engines)


def _group_levels(levels: Sequence[RunLevel]) -> dict[tuple[int, int], _CostGroup]:
    groups: dict[tuple[int, int], _CostGroup] = {}
    for run_level in levels:
        key = cost_key(run_level)
        voice = run_level.level.voice or (key in groups and groups[key].level.voice)
        faces = max(run_level.level.faces, groups[key].level.faces if key in groups else 1)
        level = replace(run_level.level, voice=voice, voice_hop_ms=2 * STEP_MS, faces=faces)
        groups[key] = _CostGroup(level, run_level.engines)
    return groups


def _make_window(
    pipeline: Pipeline,
    image: NDArray[np.uint8],
    index: int,
    end_column: int,
    num_faces: int,
    may_hear: bool,
) -> Window:
    t_ns = index * STEP_MS * 1_000_000
    corner = (WIDTH_PX - FACE_PX) / 2, (HEIGHT_PX - FACE_PX) / 2
    faces = tuple(
        FaceBox(*corner, FACE_PX, 1.0, t_ns, id=str(number)) for number in range(num_faces)
    )
    frame = VideoFrame(t_ns, index, image)
    voice_due = may_hear and pipeline.is_voice_due(t_ns)
    return Window(t_ns, frame, faces, 0.0, end_column, 0, 0, voice_due)


def _synthesize_syllables(spec: MelSpec) -> Float32:
    """Return one window of noise with the rhythm of syllables."""
    num_samples = spec.window + (spec.num_frames - 1) * spec.hop
    at_s = np.arange(num_samples) / spec.sample_rate_hz
    loudness = np.where(at_s // SYLLABLE_S % 2 == 0, 0.3, 0.003)
    noise = np.random.default_rng(1).uniform(-1, 1, num_samples)
    return (loudness * noise).astype(np.float32)


def _measure_frame(
    group: _CostGroup, pipeline: Pipeline, window: Window, clock: Clock, counts: bool
) -> None:
    """Run one frame and add its times to `group`, split as in `LevelCost`."""
    now_ns = clock.now_ns()
    estimate = pipeline.estimate(window, now_ns, now_ns)
    stages_us = estimate.stages_us
    work_ms = (estimate.latency_us - stages_us["wait"] - stages_us["sync"]) / 1e3
    if not counts:
        return
    if len(window.faces) > 1:
        group.with_faces_ms.append(work_ms)
    elif window.voice_due:
        group.with_voice_ms.append(work_ms)
    else:
        face_ms = stages_us["face"] / 1e3
        group.face_ms.append(face_ms)
        group.base_ms.append(work_ms - face_ms)


def _summarise(level: Level, group: _CostGroup) -> LevelCost:
    """The cost of the voice is all that frames with it take longer, its input included; that of
    more faces likewise."""
    base_ms, face_ms = _lower_quartile(group.base_ms), _lower_quartile(group.face_ms)
    voice_ms = 0.0
    if level.voice and group.with_voice_ms:
        voice_ms = max(0.0, _lower_quartile(group.with_voice_ms) - base_ms - face_ms)
    more_face_ms = 0.0
    num_more = min(SEVERAL, group.level.faces) - 1
    if num_more and face_ms:
        with_faces_ms = _lower_quartile(group.with_faces_ms)
        more_face_ms = max(0.0, with_faces_ms - base_ms - face_ms) / num_more
    base_ms = max(base_ms, MIN_COST_MS)
    costs_ms = [round(cost, 4) for cost in (base_ms, face_ms, voice_ms, more_face_ms)]
    return LevelCost(level.name, *costs_ms, max_faces=level.faces)


def _lower_quartile(values_ms: Sequence[float]) -> float:
    """Return a value that disturbances do not change as long as they affect at most three frames of
    four, since they only add time. The minimum would be an outlier."""
    return sorted(values_ms)[len(values_ms) // 4]
