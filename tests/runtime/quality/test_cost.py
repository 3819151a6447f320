"""The measured costs of levels, with networks of known duration on a fake clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle, Level
from emotion_edge.kernels import Box
from emotion_edge.kernels.cpu.preprocessor import CpuPreprocessor
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.quality.controller import LevelCost
from emotion_edge.runtime.quality.cost import (
    FRAMES_PER_ROUND,
    MAX_ROUNDS,
    MIN_ROUNDS,
    measure_levels,
)
from emotion_edge.runtime.quality.levels import RunLevel

from .timed_engine import MS, TimedEngine

CROP_MS, VOICE_MS = 2, 11
HIGH, MEDIUM = Level("high", 64), Level("medium", 48, voice_hop_ms=400)
SILENT = Level("silent", 48, voice=False)


class SlowPreprocessor(CpuPreprocessor):
    """A preprocessor that takes `CROP_MS` per face."""

    def __init__(self, bundle: Bundle, clock: FakeClock) -> None:
        self.clock: FakeClock | None = None
        super().__init__(bundle.manifest.image, bundle.manifest.mel)
        self.clock = clock

    def faces(
        self,
        image: NDArray[np.uint8],
        boxes: Sequence[Box],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        if self.clock is not None:
            self.clock.advance(CROP_MS * len(boxes) * MS)
        return super().faces(image, boxes, size_px, pixel_format, device_ptr)


class Bench:
    """Networks, preprocessor and clock. By default the face network takes 1 ms per 8 pixels."""

    def __init__(
        self, bundle: Bundle, face_ms: Callable[[int, int], float] = lambda side, _: side / 8
    ) -> None:
        self.clock = FakeClock()
        self.manifest = bundle.manifest
        self.face = TimedEngine(bundle.manifest, "face", self.clock, face_ms)
        self.voice = TimedEngine(bundle.manifest, "voice", self.clock, lambda *_: VOICE_MS)
        self.engines = {"face": self.face, "voice": self.voice}
        self.preprocessor = SlowPreprocessor(bundle, self.clock)

    def measure(self, *levels: Level, seconds: float = 0.5) -> Sequence[LevelCost]:
        return measure_levels(
            [RunLevel(level, self.engines) for level in levels],
            self.manifest,
            self.preprocessor,
            self.clock,
            seconds,
        )


def test_costs_are_exact(bundle: Bundle) -> None:
    """The costs are the durations of the parts, split as in `LevelCost`."""
    assert Bench(bundle).measure(HIGH, MEDIUM, SILENT) == (
        LevelCost("high", CROP_MS, 8, VOICE_MS, CROP_MS, 4),
        LevelCost("medium", CROP_MS, 6, VOICE_MS, CROP_MS, 4),
        LevelCost("silent", CROP_MS, 6, 0, CROP_MS, 4),
    )


def test_cost_of_more_faces(bundle: Bundle) -> None:
    """All that they take longer, for each; nothing at a level of one face. Levels of one cost
    share the measurement, and each has its own limit."""
    two, one = Level("two", 64, faces=2), Level("one", 56, faces=1)
    bench = Bench(bundle)
    assert bench.measure(two, one) == (
        LevelCost("two", CROP_MS, 8, VOICE_MS, CROP_MS, 2),
        LevelCost("one", CROP_MS, 7, VOICE_MS, 0, 1),
    )
    costs = Bench(bundle).measure(Level("one", 64, faces=1), Level("all", 64, faces=16))
    assert [(cost.more_face_ms, cost.max_faces) for cost in costs] == [(CROP_MS, 1), (CROP_MS, 16)]


def test_voice_network_is_not_measured_for_levels_without_voice(bundle: Bundle) -> None:
    """It does not run at all."""
    bench = Bench(bundle)
    assert bench.measure(SILENT) == (LevelCost("silent", CROP_MS, 6, 0, CROP_MS, 4),)
    assert bench.voice.num_runs == 0


def test_levels_that_differ_in_rates_share_the_measurement(bundle: Bundle) -> None:
    """Their costs are equal, and no frame is measured twice."""
    bench, other = Bench(bundle), Bench(bundle)
    costs = bench.measure(MEDIUM, SILENT, Level("slow", 48, camera_fps=8.0))
    assert costs[0].base_ms == costs[1].base_ms
    assert (costs[0].face_ms, costs[0].voice_ms) == (costs[2].face_ms, costs[2].voice_ms)
    other.measure(MEDIUM)
    assert bench.face.num_runs == other.face.num_runs


def test_precisions_are_measured_separately(bundle: Bundle) -> None:
    """Levels of the same face size but other networks do not share a measurement."""
    bench = Bench(bundle)
    quick = {
        **bench.engines,
        "face": TimedEngine(bench.manifest, "face", bench.clock, lambda *_: 1),
    }
    levels = [RunLevel(HIGH, bench.engines), RunLevel(Level("int8", 64), quick)]
    costs = measure_levels(levels, bench.manifest, bench.preprocessor, bench.clock, 0.5)
    assert [cost.face_ms for cost in costs] == [8, 1]


@pytest.mark.parametrize("missing", ["face", "voice"])
def test_bundle_with_one_network(bundle: Bundle, missing: str) -> None:
    """A missing network costs nothing."""
    bench = Bench(bundle)
    del bench.engines[missing]
    without_face = LevelCost("high", 0.001, 0, VOICE_MS, 0, 4)
    without_voice = LevelCost("high", CROP_MS, 8, 0, CROP_MS, 4)
    assert bench.measure(HIGH) == (without_face if missing == "face" else without_voice,)


@pytest.mark.parametrize("fails", [False, True])
def test_measurement_leaves_no_audio(bundle: Bundle, fails: bool) -> None:
    """The log-mel is empty afterwards, also when a network fails."""
    bench = Bench(bundle)
    bench.voice.fails = fails
    with pytest.raises(EngineError) if fails else nullcontext():
        bench.measure(HIGH)
    mel = bench.preprocessor.mel
    assert (mel.num_columns, mel.next_sample, mel.first_column) == (0, 0, 0)
    log_mel, mask = mel.window()
    assert not log_mel.any()
    assert not mask.any()


def test_disturbances_are_left_out(bundle: Bundle) -> None:
    """Two frames of three that take ten times as long do not change the cost."""
    (cost,) = Bench(bundle, lambda _, run: 8 if run % 3 == 0 else 80).measure(HIGH, seconds=5)
    assert cost == LevelCost("high", CROP_MS, 8, VOICE_MS, CROP_MS, 4)


def test_fast_outliers_are_left_out(bundle: Bundle) -> None:
    """One frame of seven that takes almost no time does not change the cost."""
    (cost,) = Bench(bundle, lambda _, run: 8 if run % 7 else 0.1).measure(HIGH, seconds=5)
    assert cost.face_ms == 8


def test_first_frames_are_not_measured(bundle: Bundle) -> None:
    """The first round only warms up caches; the shortest measurement has one round more."""
    bench = Bench(bundle, lambda _, run: 8 if run >= FRAMES_PER_ROUND else 1)
    assert bench.measure(HIGH, seconds=0)[0].face_ms == 8
    assert bench.face.num_runs == 2 * FRAMES_PER_ROUND


def test_duration_of_the_measurement(bundle: Bundle) -> None:
    """It lasts `seconds` and the rest of the round."""
    bench = Bench(bundle)
    bench.measure(HIGH, MEDIUM, seconds=0.5)
    round_ms = 2 * 2 * (2 * CROP_MS + VOICE_MS) + 2 * 4 * CROP_MS + 5 * 8 + 5 * 6
    assert 500 <= bench.clock.now_ns() / MS < 500 + round_ms


def test_slow_machine_runs_the_fewest_rounds(bundle: Bundle) -> None:
    """At a second per frame there are two rounds."""
    bench = Bench(bundle, lambda *_: 1000)
    assert bench.measure(HIGH)[0].face_ms == 1000
    assert bench.face.num_runs == MIN_ROUNDS * FRAMES_PER_ROUND


def test_a_clock_that_stands_still(bundle: Bundle) -> None:
    """The measurement ends after `MAX_ROUNDS`, with a cost above zero."""
    bench = Bench(bundle, lambda *_: 0)
    bench.preprocessor.clock = None
    (cost,) = bench.measure(SILENT)
    assert cost == LevelCost("silent", 0.001, 0, 0, 0, 4)
    assert bench.face.num_runs == MAX_ROUNDS * FRAMES_PER_ROUND
