"""Recordings: their rows, their limits in time and in capacity, and lost frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from emotion_edge.runtime.bench.recorder import ROW, RecordingRateLimiter
from emotion_edge.runtime.telemetry.latency import STAGES

if TYPE_CHECKING:
    from .conftest import Run

MS = 1_000_000


def test_rows(run: Run) -> None:
    """Each estimate after the warm-up has its times, stages, level and modalities."""
    run.frame(500.0)
    assert run.recorder.started.is_set()
    run.frame(1499.0)
    run.frame(1500.0, 46.5, "high", wait=1.0, face=3.0)
    run.frame(1540.0, 7.25, "low", voice=2.5)
    recording = run.recorder.finish(10.0)
    assert recording.start_ns == 1500 * MS
    assert recording.rows.dtype == ROW
    assert recording.rows["t_ns"].tolist() == [1500 * MS, 1540 * MS]
    assert recording.rows["index"].tolist() == [2, 3]
    assert recording.rows["latency_us"].tolist() == [46500.0, 7250.0]
    assert recording.rows["face"].tolist() == [1, 0]
    assert recording.rows["voice"].tolist() == [0, 1]
    assert [recording.levels[level] for level in recording.rows["level"]] == ["high", "low"]
    stages = dict(zip(STAGES, recording.rows["stages_us"][0].tolist(), strict=True))
    assert (stages["wait"], stages["face"], stages["fusion"]) == (1000.0, 3000.0, 0.0)
    assert recording.arrived_ns.tolist() == [1500 * MS, 1540 * MS]
    assert recording.lost == 0


def test_frames_after_the_end_are_left_out(run: Run) -> None:
    """The last frames may still be in process when a run ends."""
    run.frame(0.0)
    run.frame(1000.0)
    run.frame(1500.0)
    assert run.arrive(1520.0)
    recording = run.recorder.finish(0.5)
    assert recording.rows["t_ns"].tolist() == [1000 * MS]
    assert recording.arrived_ns.tolist() == [1000 * MS]


def test_ring_keeps_the_newest(make_run: Callable[[int], Run]) -> None:
    """A camera above its configured rate overwrites the oldest rows. `start_ns` follows."""
    run = make_run(4)
    for number in range(11):
        run.frame(number * 500.0)
    recording = run.recorder.finish(100.0)
    assert recording.rows["t_ns"].tolist() == [n * 500 * MS for n in (7, 8, 9, 10)]
    assert recording.arrived_ns.tolist() == recording.rows["t_ns"].tolist()
    assert recording.start_ns == 3500 * MS
    assert recording.lost == 0


def test_misses_before_the_warm_up_is_over_do_not_count(run: Run) -> None:
    """The log counts from the start, the recording from the end of the warm-up."""
    causes = run.runtime.latency.misses_by_cause
    run.frame(0.0)
    causes["face"] = 2
    run.frame(1000.0)
    causes["face"], causes["wait"] = 3, 1
    assert run.recorder.finish(1.0).misses_by_cause == {
        **dict.fromkeys(STAGES, 0),
        "face": 1,
        "wait": 1,
    }


def test_frames_are_distinguished_from_audio_only_estimates(run: Run) -> None:
    """An audio-only estimate is no frame."""
    run.frame(0.0)
    run.frame(1000.0)
    run.estimate(1250.0)
    recording = run.recorder.finish(1.0)
    assert len(recording.rows) == 2
    assert recording.frame_rows["t_ns"].tolist() == [1000 * MS]
    assert recording.lost == 0


def test_run_with_audio_only(run: Run) -> None:
    """Without any frame the figures are of the audio-only estimates."""
    for number in range(8):
        run.estimate(number * 250.0)
    assert len(run.recorder.finish(1.0).frame_rows) == 4


def test_lost_frames(run: Run) -> None:
    """Dropped and skipped frames are explained, a frame that vanishes is not."""
    run.frame(0.0)
    run.runtime.rate_limiter.set_rate(15.0)
    run.frame(1000.0)
    assert not run.arrive(1020.0)
    run.frame(1066.0)
    assert run.arrive(1133.0)  # overwritten by the next one
    run.runtime.dropped_frames = 1
    run.frame(1200.0)
    assert run.recorder.finish(1.0).lost == 0
    assert run.arrive(1266.0)  # gone
    run.frame(1333.0)
    assert run.recorder.finish(1.0).lost == 1


def test_recording_rate_limiter_limits_as_usual() -> None:
    """It accepts the frames of a rate limiter, and records the decisions."""
    arrivals = RecordingRateLimiter(10)
    arrivals.set_rate(15.0)
    decisions = [arrivals.accepts(round(n * 1e9 / 30)) for n in range(4)]
    times, accepted = arrivals.read()
    assert accepted.tolist() == decisions == [True, False, True, False]
    assert times.tolist() == [0, 33_333_333, 66_666_667, 100_000_000]
    assert arrivals.skipped == 2
