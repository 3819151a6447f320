"""What levels cost, with networks that take a known time on a clock that tests move."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle, Level, load_bundle
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

sys.path.append(str(Path(__file__).parent))  # the tests are no package
from timed_engine import MS, TimedEngine

CROP_MS, VOICE_MS = 2, 11
HIGH, MEDIUM = Level("high", 64), Level("medium", 48, voice_hop_ms=400)
SILENT = Level("silent", 48, voice=False)


class SlowPreprocessor(CpuPreprocessor):
    """Takes `CROP_MS` for a face."""

    def __init__(self, bundle: Bundle, clock: FakeClock) -> None:
        self.clock: FakeClock | None = None
        super().__init__(bundle.manifest.image, bundle.manifest.mel)
        self.clock = clock

    def face(
        self,
        image: NDArray[np.uint8],
        box: tuple[float, float, float],
        size_px: int,
        pixel_format: str = "bgr8",
        device_ptr: int = 0,
    ) -> NDArray[np.float32]:
        if self.clock is not None:
            self.clock.advance(CROP_MS * MS)
        return super().face(image, box, size_px, pixel_format, device_ptr)


class Bench:
    """Networks, preprocessor and clock, all in reach. A face takes an eighth of its pixels."""

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


@pytest.fixture
def bundle(null_bundle: Path) -> Bundle:
    return load_bundle(null_bundle)


def test_costs_are_exact(bundle: Bundle) -> None:
    """What the parts take is what is found, divided as the controller divides it."""
    assert Bench(bundle).measure(HIGH, MEDIUM, SILENT) == (
        LevelCost("high", CROP_MS, 8, VOICE_MS),
        LevelCost("medium", CROP_MS, 6, VOICE_MS),
        LevelCost("silent", CROP_MS, 6, 0),
    )


def test_a_level_without_voice_does_not_wait_for_it(bundle: Bundle) -> None:
    """When no level of its kind uses the voice, it does not run."""
    bench = Bench(bundle)
    assert bench.measure(SILENT) == (LevelCost("silent", CROP_MS, 6, 0),)
    assert bench.voice.num_runs == 0


def test_levels_that_differ_in_rates_share_the_measurement(bundle: Bundle) -> None:
    """They cost the same, to the last digit, and no more time."""
    bench, other = Bench(bundle), Bench(bundle)
    costs = bench.measure(MEDIUM, SILENT, Level("slow", 48, camera_fps=8.0))
    assert costs[0].base_ms == costs[1].base_ms
    assert (costs[0].face_ms, costs[0].voice_ms) == (costs[2].face_ms, costs[2].voice_ms)
    other.measure(MEDIUM)
    assert bench.face.num_runs == other.face.num_runs


def test_precisions_are_measured_apart(bundle: Bundle) -> None:
    """Levels of one size with other networks are of another kind."""
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
    """What is not there costs nothing."""
    bench = Bench(bundle)
    del bench.engines[missing]
    without_face = LevelCost("high", 0.001, 0, VOICE_MS)
    without_voice = LevelCost("high", CROP_MS, 8, 0)
    assert bench.measure(HIGH) == (without_face if missing == "face" else without_voice,)


def test_measurement_leaves_no_audio(bundle: Bundle) -> None:
    """The stream of sound is as new: nothing of what was measured with is ever heard."""
    bench = Bench(bundle)
    bench.measure(HIGH)
    mel = bench.preprocessor.mel
    assert (mel.num_columns, mel.next_sample, mel.first_column) == (0, 0, 0)
    log_mel, mask = mel.window()
    assert not log_mel.any()
    assert not mask.any()


def test_failed_measurement_leaves_no_audio(bundle: Bundle) -> None:
    """A network that fails is told to who asked."""
    bench = Bench(bundle)
    bench.voice.fails = True
    with pytest.raises(EngineError, match="gone"):
        bench.measure(HIGH)
    assert bench.preprocessor.mel.num_columns == 0


def test_disturbances_are_left_out(bundle: Bundle) -> None:
    """Two pictures of three that take ten times as long change nothing."""
    (cost,) = Bench(bundle, lambda _, run: 8 if run % 3 == 0 else 80).measure(HIGH, seconds=5)
    assert cost == LevelCost("high", CROP_MS, 8, VOICE_MS)


def test_a_stroke_of_luck_counts_for_nothing(bundle: Bundle) -> None:
    """One picture in seven that takes next to nothing is not what a level costs."""
    (cost,) = Bench(bundle, lambda _, run: 8 if run % 7 else 0.1).measure(HIGH, seconds=5)
    assert cost.face_ms == 8


def test_first_frames_are_not_measured(bundle: Bundle) -> None:
    """They find caches cold; the shortest measurement has as many that count."""
    bench = Bench(bundle, lambda _, run: 8 if run >= FRAMES_PER_ROUND else 1)
    assert bench.measure(HIGH, seconds=0)[0].face_ms == 8
    assert bench.face.num_runs == 2 * FRAMES_PER_ROUND


def test_ends_in_time(bundle: Bundle) -> None:
    """For `seconds`, and then for the rest of a round at most."""
    bench = Bench(bundle)
    bench.measure(HIGH, MEDIUM, seconds=0.5)
    round_ms = 2 * 2 * (2 * CROP_MS + VOICE_MS) + 4 * 8 + 4 * 6
    assert 500 <= bench.clock.now_ns() / MS < 500 + round_ms


def test_a_slow_machine_is_not_asked_twice(bundle: Bundle) -> None:
    """A second for each picture: there are two rounds, and that is all."""
    bench = Bench(bundle, lambda *_: 1000)
    assert bench.measure(HIGH)[0].face_ms == 1000
    assert bench.face.num_runs == MIN_ROUNDS * FRAMES_PER_ROUND


def test_a_clock_that_stands_still(bundle: Bundle) -> None:
    """The measurement ends all the same, and what it finds is above zero."""
    bench = Bench(bundle, lambda *_: 0)
    bench.preprocessor.clock = None
    (cost,) = bench.measure(SILENT)
    assert cost == LevelCost("silent", 0.001, 0, 0)
    assert bench.face.num_runs == MAX_ROUNDS * FRAMES_PER_ROUND
