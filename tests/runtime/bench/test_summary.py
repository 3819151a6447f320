"""Figures of simulated runs against values calculated by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from emotion_edge.runtime.bench import summary
from emotion_edge.runtime.bench.scenarios import Phase
from emotion_edge.runtime.bench.summary import (
    combine_repeats,
    percentile,
    summarise_phases,
    summarize,
)
from emotion_edge.runtime.telemetry.latency import STAGES

if TYPE_CHECKING:
    from .conftest import Run


@pytest.mark.parametrize(
    ("values", "rank", "want"),
    [
        ([5], 50, 5),
        ([1, 2], 50, 1),
        ([1, 2, 3, 4], 50, 2),
        (range(1, 101), 99, 99),
        (range(1, 1001), 99.9, 999),
        (range(1, 1001), 100, 1000),
        (range(1, 1001), 0, 1),
        ([3, 1], 99, 3),
    ],
)
def test_percentile_is_a_value_that_occurred(values: list[float], rank: float, want: float) -> None:
    """Nearest rank: a budget is about results that occurred."""
    assert percentile(list(values), rank) == want


def test_figures_of_a_run(make_recording: Callable[..., Any]) -> None:
    """100 results of 1 to 100 ms, the face network half of each, a budget of 90 ms."""
    figures = summarize(make_recording([float(n) for n in range(1, 101)]), 90.0)
    assert figures["latency_ms"] == {
        "p50": 50.0,
        "p90": 90.0,
        "p95": 95.0,
        "p99": 99.0,
        "p99.9": 100.0,
        "max": 100.0,
        "mean": 50.5,
    }
    assert figures["networks_ms"] == {"p50": 25.0, "p90": 45.0, "p99": 49.5}
    assert figures["p50_over_networks"] == 2.0
    assert figures["p99_over_p50"] == 1.98
    assert list(figures["stages_ms"]) == list(STAGES)
    assert figures["stages_ms"]["face"] == {"p50": 25.0, "p99": 49.5}
    assert figures["stages_ms"]["voice"] == {"p50": 0.0, "p99": 0.0}
    assert (figures["misses"], figures["frames"], figures["estimates"]) == (10, 100, 100)
    assert (figures["dropped"], figures["passed_over"]) == (0, 0)
    assert (figures["with_face"], figures["with_voice"]) == (100, 0)
    assert figures["level_time_s"] == {"high": 4.0, "low": 0.0}
    assert figures["level_switches"] == []
    assert figures["percentile_curve"]["rank"][50] == 50
    assert figures["percentile_curve"]["latency_ms"][50] == 50.0
    assert figures["series"]["t_s"][:3] == [0.0, 0.04, 0.08]
    assert figures["series"]["levels"] == ["high", "low"]


def test_frame_counts_add_up(run: Run) -> None:
    """Frames are estimated, skipped at a low level, or dropped."""
    run.frame(0.0)
    run.frame(1000.0, 46.0)
    assert run.arrive(1033.0)  # overwritten
    run.frame(1066.0)
    run.runtime.rate_limiter.set_rate(15.0)
    run.frame(1100.0)
    assert not run.arrive(1120.0)
    run.frame(1166.0)
    figures = summarize(run.recorder.finish(1.0), 45.0)
    assert (figures["frames"], figures["estimates"]) == (6, 4)
    assert (figures["dropped"], figures["passed_over"], figures["misses"]) == (1, 1, 1)


def test_frames_lost_by_the_camera(run: Run) -> None:
    """A gap in the camera's numbers counts as dropped frames."""
    run.frame(0.0)
    run.frame(1000.0)
    run.index += 3
    run.frame(1200.0)
    figures = summarize(run.recorder.finish(1.0), 45.0)
    assert (figures["frames"], figures["dropped"]) == (5, 3)


def test_levels_over_time(run: Run) -> None:
    """A level lasts from its first result to the next level's first result."""
    for t_ms, level in ((0, "high"), (1000, "high"), (1500, "low"), (2250, "high")):
        run.frame(float(t_ms), 5.0, level)
    figures = summarize(run.recorder.finish(2.0), 45.0)
    assert figures["level_time_s"] == {"high": 1.25, "low": 0.75}
    assert figures["level_switches"] == [
        {"t_s": 0.5, "from": "high", "to": "low"},
        {"t_s": 1.25, "from": "low", "to": "high"},
    ]
    assert figures["series"]["level"] == [0, 1, 0]


def test_series_keeps_the_worst_of_its_neighbours(
    make_recording: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late result is in the series of any long run."""
    monkeypatch.setattr(summary, "MAX_POINTS", 3)
    series = summarize(make_recording([1, 9, 2, 3, 4, 5, 80]), 45.0)["series"]
    assert series["latency_ms"] == [9.0, 5.0, 80.0]
    assert series["t_s"] == [0.04, 0.2, 0.24]


def test_phases(run: Run) -> None:
    """Each has its own figures, and the recovery time after a disturbance."""
    run.frame(0.0)
    for n, (level, latency_ms) in enumerate(
        [("high", 5), ("high", 50), ("low", 60), ("low", 8), ("high", 5), ("low", 6), ("high", 4)]
    ):
        run.frame(1000.0 + 100 * n, float(latency_ms), level)
    phases = (
        Phase("quiet", 0.0, 0.1),
        Phase("hogs", 0.1, 0.25, disturbed=True),
        Phase("quiet", 0.25, 0.75),
    )
    before, load, after = summarise_phases(run.recorder.finish(0.75), phases, 45.0)
    assert (before["frames"], before["misses"]) == (1, 0)
    assert (load["frames"], load["misses"]) == (2, 2)
    assert load["latency_ms"] == {"p50": 50.0, "p99": 60.0, "max": 60.0}
    assert "back_at_top_s" not in load
    # Back at 0.4 s, but not for good before 0.6 s.
    assert after["back_at_top_s"] == 0.35
    assert after["latency_ms"]["max"] == 8.0
    # Results at 0.26, 0.308 (of the frame at 0.3), 0.405, 0.506 and 0.604 s.
    assert after["longest_gap_ms"] == 146.0


def test_never_back_at_the_best_level(run: Run) -> None:
    """None without a recovery, 0 for a run that never left the best level."""
    run.frame(0.0)
    run.frame(1000.0)
    run.frame(1100.0, 5.0, "low")
    phases = (Phase("hogs", 0.0, 0.05, disturbed=True), Phase("quiet", 0.05, 0.2))
    low = summarise_phases(run.recorder.finish(0.2), phases, 45.0)
    assert low[1]["back_at_top_s"] is None
    at_top = (Phase("hogs", -1.0, 0.0, disturbed=True), Phase("quiet", 0.0, 0.05))
    assert summarise_phases(run.recorder.finish(0.2), at_top, 45.0)[1]["back_at_top_s"] == 0.0


def test_phase_without_results(run: Run) -> None:
    """It has no percentiles, and a gap as long as the phase."""
    run.frame(0.0)
    run.frame(1000.0)
    (phase,) = summarise_phases(run.recorder.finish(2.0), (Phase("silent", 1.0, 2.0),), 45.0)
    assert phase["latency_ms"] == {"max": 0.0}
    assert phase["longest_gap_ms"] == 1000.0


def test_repeats_are_medians(make_recording: Callable[..., Any]) -> None:
    """Figures are medians one by one. The rest is of the middle run, and all runs are listed."""
    runs = [summarize(make_recording(list_ms), 45.0) for list_ms in ([9, 50], [1, 80], [5, 60])]
    report = combine_repeats(runs)
    assert (report["latency_ms"]["p50"], report["latency_ms"]["p99"]) == (5.0, 60.0)
    assert report["stages_ms"]["face"]["p99"] == 30.0
    assert report["series"] == runs[2]["series"]
    assert [run["latency_ms"]["p99"] for run in report["repeats"]] == [50.0, 80.0, 60.0]
    assert [run["frames"] for run in report["repeats"]] == [2, 2, 2]
