"""The capture time of audio samples, for a sound card with drift, jitter and losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.spec import MelSpec
from emotion_edge.runtime.messages import AudioChunk
from emotion_edge.runtime.perception.audio_clock import AudioClock
from emotion_edge.runtime.perception.sync import Synchroniser

RATE = 16_000
SECOND = 1_000_000_000
SPEC = MelSpec()


class CountingMel:
    """A log-mel that counts columns and computes none."""

    HISTORY_COLUMNS = 64

    def __init__(self) -> None:
        self.spec = SPEC
        self.first_column = 0
        self.next_sample = 0

    @property
    def num_columns(self) -> int:
        return max(self.first_column, (self.next_sample - SPEC.window) // SPEC.hop + 1)

    def restart(self, first_sample: int) -> None:
        self.first_column = -(-first_sample // SPEC.hop)
        self.next_sample = first_sample

    def push(self, samples: NDArray[np.float32]) -> int:
        before = self.num_columns
        self.next_sample += len(samples)
        return self.num_columns - before

    def window(self, end_column: int | None = None) -> tuple[object, object]:
        raise NotImplementedError

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        raise NotImplementedError


@dataclass
class Card:
    """A sound card whose true rate, timestamps and losses are known.

    A timestamp is taken when the callback runs: late by 0 to `jitter_s`, never early.
    """

    ppm: float
    chunk_ms: int
    seed: int
    gap: str = ""
    """""known": the source's sample count jumps; "unknown": only the timestamps show it."""
    jitter_s: float = 0.020
    gap_at_s: float = 47.3
    gap_s: float = 0.2
    start_s: float = 1234.5
    stretches: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """Where each stretch without a gap begins: number on the ring, number on the card."""

    @property
    def rate_hz(self) -> float:
        return RATE * (1 + self.ppm * 1e-6)

    def chunks(self, seconds: float) -> Iterator[tuple[float, AudioChunk]]:
        """Yield (time of arrival, chunk), in order."""
        rng = np.random.default_rng(self.seed)
        samples = np.zeros(RATE * self.chunk_ms // 1000, np.float32)
        on_card = on_ring = counted = 0
        arrival_s = 0.0
        while on_card < seconds * self.rate_hz:
            if self.gap and len(self.stretches) == 1 and on_card >= self.gap_at_s * self.rate_hz:
                lost = round(self.gap_s * self.rate_hz)
                on_card += lost
                counted += lost if self.gap == "known" else 0
                self.stretches.append((on_ring, on_card))
            late_s = rng.uniform(0, self.jitter_s)
            t_s = self.start_s + on_card / self.rate_hz
            arrival_s = max(arrival_s, t_s + len(samples) / self.rate_hz + late_s)
            yield arrival_s, AudioChunk(round((t_s + late_s) * 1e9), counted, samples)
            on_card += len(samples)
            on_ring += len(samples)
            counted += len(samples)

    def sample_on_ring(self, t_s: float) -> float:
        """Return the number of the sample captured at `t_s`; in a gap, the last one before it."""
        on_card = (t_s - self.start_s) * self.rate_hz
        ring, card = self.stretches[-1]
        if on_card >= card or len(self.stretches) == 1:
            return on_card - card + ring
        return min(on_card, ring)


def simulate(
    card: Card, seconds: float = 120.0, fps: float = 30.0
) -> tuple[Synchroniser, NDArray[np.float64], float]:
    """Return the synchroniser after the run, each frame's error in ms, and the drift after 60 s."""
    sync = Synchroniser(CountingMel(), 0.0)
    errors_ms = []
    frame = 0
    drift_ppm = 0.0
    for arrival_s, chunk in card.chunks(seconds):
        while (t_s := card.start_s + frame / fps) < arrival_s:
            window = sync.window(round(t_s * 1e9), None, None, voice_due=False)
            if window.audio_sample is not None:
                errors_ms.append((window.audio_sample - card.sample_on_ring(t_s)) / RATE * 1e3)
            frame += 1
        sync.add_audio(chunk)
        if arrival_s - card.start_s <= 60.0:
            drift_ppm = sync.audio_clock.drift_ppm
    return sync, np.array(errors_ms), drift_ppm


@pytest.mark.parametrize("gap", ["", "known", "unknown"])
@pytest.mark.parametrize("chunk_ms", [10, 32])
@pytest.mark.parametrize("ppm", [-300, 0, 300])
def test_audio_is_within_2_ms_of_the_frame(ppm: int, chunk_ms: int, gap: str) -> None:
    """Two minutes at 30 fps: drift, jitter of 20 ms, 200 ms lost once; each of three seeds."""
    for seed in range(3):
        sync, errors_ms, drift_ppm = simulate(Card(ppm, chunk_ms, seed, gap))
        assert len(errors_ms) > 3590
        p99 = np.percentile(np.abs(errors_ms), 99)
        assert p99 <= 2.0, f"seed {seed}: {p99:.2f} ms"
        assert abs(drift_ppm - ppm) < 50
        assert abs(sync.audio_clock.drift_ppm - ppm) < 50
        assert sync.audio_clock.gaps == (1 if gap else 0)


def test_clean_card_is_exact() -> None:
    """Without jitter and drift every frame is exact to 10 microseconds."""
    _, errors_ms, _ = simulate(Card(0, 10, 0, jitter_s=0.0), seconds=10)
    assert np.abs(errors_ms).max() < 0.01


@pytest.mark.parametrize("stall_ms", [40, 90])
def test_late_burst_is_no_gap(stall_ms: int) -> None:
    """A callback that stalls and then delivers everything has lost nothing."""
    card = Card(100, 10, 3, jitter_s=0.002)
    clock = AudioClock(RATE)
    stall_at_s = card.start_s + 20.0
    stall_end_ns = round((stall_at_s + stall_ms / 1e3) * 1e9)
    for arrival_s, chunk in card.chunks(25.0):
        t_ns = chunk.t_ns
        if stall_at_s <= arrival_s < stall_end_ns / 1e9:
            t_ns = stall_end_ns
        clock.update(AudioChunk(t_ns, chunk.first_sample, chunk.samples))
        if arrival_s > card.start_s + 5:
            error_ms = (clock.line.sample_at(arrival_s * 1e9) - card.sample_on_ring(arrival_s)) / 16
            assert abs(error_ms) < 1.0
    assert clock.gaps == 0


def test_chunks_late_now_and_then_are_no_gap() -> None:
    """One timestamp in five is late by 60 ms: the others decide."""
    clock = AudioClock(RATE)
    samples = np.zeros(160, np.float32)
    for n in range(1000):
        clock.update(AudioChunk(n * 10_000_000 + 60_000_000 * (n % 5 == 3), n * 160, samples))
    assert clock.gaps == 0
    assert clock.time_of(160_000) == pytest.approx(10 * SECOND, abs=100_000)


def test_gap_is_followed_soon() -> None:
    """A loss that only the timestamps show is found within 150 ms, and the rate stays."""
    card = Card(200, 10, 5, "unknown", gap_at_s=30.0)
    sync, errors_ms, _ = simulate(card, seconds=35.0)
    assert np.abs(errors_ms[round((30.2 + 0.15) * 30) :]).max() < 3.0
    assert sync.audio_clock.gaps == 1
    assert abs(sync.audio_clock.drift_ppm - 200) < 50


def test_backward_timestamp_is_a_gap() -> None:
    """A source that restarts with earlier times is followed at once."""
    clock = AudioClock(RATE)
    samples = np.zeros(160, np.float32)
    for n in range(100):
        clock.update(AudioChunk(n * 10_000_000, n * 160, samples))
    clock.update(AudioChunk(500_000_000, 16_000, samples))
    assert clock.gaps == 1
    assert clock.time_of(16_000) == pytest.approx(500_000_000)


def test_time_and_sample_are_inverse() -> None:
    """With any drift, `sample_at` inverts `time_of`."""
    clock = AudioClock(RATE)
    for _, chunk in Card(250, 10, 1).chunks(8.0):
        clock.update(chunk)
    for sample in (0.0, 12_345.6, 200_000.0):
        assert clock.line.sample_at(clock.time_of(sample)) == pytest.approx(sample, abs=1e-3)
