"""Figures of a recording.

In: a `Recording`. Out: figures as in the JSON file. Times are in ms unless the name has another
unit. Percentiles are by nearest rank: values that occurred.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..telemetry import STAGES
from .recorder import Recording
from .scenarios import Phase

RANKS = (50, 90, 95, 99, 99.9)
CURVE_RANKS = (*range(100), 99.5, 99.9, 99.95, 99.99, 100)
MAX_POINTS = 20_000
HEADLINES = ("latency_ms", "networks_ms", "p50_over_networks", "p99_over_p50", "stages_ms")
"""Figures whose medians are reported when a run is repeated."""


def percentile(values: ArrayLike, rank: float) -> float:
    """Return the smallest value that `rank` percent of all values do not exceed."""
    return percentiles(values, (rank,))[0]


def percentiles(values: ArrayLike, ranks: Sequence[float]) -> list[float]:
    """Return the percentile of each rank, by nearest rank."""
    ordered = np.sort(np.asarray(values, np.float64))
    # Rounded first: 99.9 % of 1000 values are 999 of them, not 999.0000000000001.
    wanted = (max(1, math.ceil(round(len(ordered) * rank / 100, 6))) for rank in ranks)
    return [float(ordered[number - 1]) for number in wanted]


def percentiles_by_name(values_ms: ArrayLike, *ranks: float) -> dict[str, float]:
    """Return percentiles by name, such as "p99.9"."""
    ranked = zip(ranks, percentiles(values_ms, ranks), strict=True)
    return {f"p{rank:g}": round(value, 3) for rank, value in ranked}


def summarize(recording: Recording, budget_ms: float) -> dict[str, Any]:
    """Return the figures of a run with at least one estimate."""
    rows = recording.frame_rows
    latency = rows["latency_us"] / 1e3
    stages = rows["stages_us"].astype(np.float64) / 1e3
    networks = stages[:, STAGES.index("face")] + stages[:, STAGES.index("voice")]
    p50, p99 = percentiles(latency, (50, 99))
    return {
        "budget_ms": budget_ms,
        "latency_ms": {
            **percentiles_by_name(latency, *RANKS),
            "max": round(float(latency.max()), 3),
            "mean": round(float(latency.mean()), 3),
        },
        "networks_ms": percentiles_by_name(networks, 50, 90, 99),
        "p50_over_networks": round(p50 / max(percentile(networks, 50), 1e-6), 3),
        "p99_over_p50": round(p99 / max(p50, 1e-6), 3),
        "stages_ms": {
            name: percentiles_by_name(stages[:, number], 50, 99)
            for number, name in enumerate(STAGES)
        },
        "misses_by_cause": dict(recording.misses_by_cause),
        **count_frames(recording, budget_ms),
        **_describe_levels(recording),
        "series": _make_series(recording),
        "percentile_curve": {
            "rank": list(CURVE_RANKS),
            "latency_ms": [round(value, 3) for value in percentiles(latency, CURVE_RANKS)],
        },
    }


def count_frames(
    recording: Recording, budget_ms: float, from_s: float = 0.0, to_s: float = math.inf
) -> dict[str, int]:
    """Count frames, misses and estimates of a part of the run."""

    def within(t_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        t_s = (t_ns - recording.start_ns) / 1e9
        return np.asarray((t_s >= from_s) & (t_s < to_s))

    estimates = recording.rows[within(recording.rows["t_ns"])]
    frame_rows = recording.frame_rows
    rows = frame_rows[within(frame_rows["t_ns"])]
    arrived = within(recording.arrived_ns)
    frames = int(arrived.sum()) if recording.arrived_ns.size else len(rows)
    if rows.size:  # a camera also numbers frames that it lost
        between = (recording.arrived_ns >= rows["t_ns"][0]) & (
            recording.arrived_ns <= rows["t_ns"][-1]
        )
        numbered = int(rows["index"][-1] - rows["index"][0]) + 1
        if recording.arrived_ns.size:
            frames += max(0, numbered - int(between.sum()))
    skipped = int((arrived & ~recording.accepted).sum())
    return {
        "misses": int((rows["latency_us"] > budget_ms * 1e3).sum()),
        "frames": frames,
        "dropped": frames - len(rows) - skipped,
        "passed_over": skipped,
        "estimates": len(estimates),
        "with_face": int(estimates["face"].sum()),
        "with_voice": int(estimates["voice"].sum()),
    }


def summarise_phases(
    recording: Recording, phases: Sequence[Phase], budget_ms: float
) -> list[dict[str, Any]]:
    """Return the figures of each phase, with `back_at_top_s` after a disturbed one.

    `longest_gap_ms` is the longest time without a new result.
    """
    entries: list[dict[str, Any]] = []
    after_disturbance = False
    for phase in phases:
        rows = _rows_within(recording, phase)
        latency = rows["latency_us"] / 1e3
        entry: dict[str, Any] = {
            "name": phase.name,
            "from_s": round(phase.from_s, 3),
            "to_s": round(phase.to_s, 3),
            **count_frames(recording, budget_ms, phase.from_s, phase.to_s),
            "latency_ms": {
                **(percentiles_by_name(latency, 50, 99) if rows.size else {}),
                "max": round(float(latency.max(initial=0.0)), 3),
            },
            "longest_gap_ms": _longest_gap_ms(recording, phase),
        }
        if after_disturbance:
            entry["back_at_top_s"] = _time_to_top(recording, phase)
        after_disturbance = phase.disturbed
        entries.append(entry)
    return entries


def _rows_within(recording: Recording, phase: Phase) -> NDArray[Any]:
    t_s = (recording.rows["t_ns"] - recording.start_ns) / 1e9
    return recording.rows[(t_s >= phase.from_s) & (t_s < phase.to_s)]


def _longest_gap_ms(recording: Recording, phase: Phase) -> float:
    """Return the longest time between results, the borders of the phase included."""
    rows = recording.rows
    ready_s = (rows["t_ns"] - recording.start_ns) / 1e9 + rows["latency_us"] / 1e6
    inside = ready_s[(ready_s >= phase.from_s) & (ready_s < phase.to_s)]
    points = np.concatenate([[phase.from_s], inside, [phase.to_s]])
    return round(float(np.diff(np.sort(points)).max()) * 1e3, 3)


def _time_to_top(recording: Recording, phase: Phase) -> float | None:
    """Return the seconds into the phase after which the level stays the best one.

    None when the phase does not end at the best level.
    """
    rows = _rows_within(recording, phase)
    below = np.flatnonzero(rows["level"] != 0)
    if not below.size:
        return 0.0
    if below[-1] + 1 >= len(rows):
        return None
    t_s = (int(rows["t_ns"][below[-1] + 1]) - recording.start_ns) / 1e9
    return round(t_s - phase.from_s, 3)


def _describe_levels(recording: Recording) -> dict[str, Any]:
    """Return the time at each level, and the switches. A level lasts until the next estimate."""
    rows, names = recording.rows, recording.levels
    t_s = (rows["t_ns"] - recording.start_ns) / 1e9
    until_s = np.append(t_s[1:], max(recording.seconds, float(t_s[-1])))
    level_time_s = {
        name: round(float((until_s - t_s)[rows["level"] == number].sum()), 3)
        for number, name in enumerate(names)
    }
    changes = np.flatnonzero(np.diff(rows["level"].astype(int))) + 1
    return {
        "level_time_s": level_time_s,
        "level_switches": [
            {
                "t_s": round(float(t_s[at]), 3),
                "from": names[rows["level"][at - 1]],
                "to": names[rows["level"][at]],
            }
            for at in changes
        ],
    }


def _make_series(recording: Recording) -> dict[str, Any]:
    """Return latency and level over time. Each group of neighbours is its slowest result."""
    rows = recording.frame_rows
    group = -(-len(rows) // MAX_POINTS)
    starts = range(0, len(rows), group)
    slowest = [n + int(rows["latency_us"][n : n + group].argmax()) for n in starts]
    t_s = (rows["t_ns"][slowest] - recording.start_ns) / 1e9
    return {
        "t_s": np.round(t_s, 3).tolist(),
        "latency_ms": np.round(rows["latency_us"][slowest] / 1e3, 3).tolist(),
        "level": rows["level"][slowest].tolist(),
        "levels": list(recording.levels),
    }


def combine_repeats(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine repeats of a run: `HEADLINES` are medians, figure by figure.

    Everything else is of the run whose p99 is the median, of an even number the better of the
    middle two.
    """
    ordered = sorted(repeats, key=lambda figures: figures["latency_ms"]["p99"])
    typical = ordered[(len(ordered) - 1) // 2]
    medians = {name: _median([figures[name] for figures in repeats]) for name in HEADLINES}
    names = ("latency_ms", "networks_ms", "stages_ms", "misses", "frames", "p50_over_networks")
    return {
        **typical,
        **medians,
        "repeats": [{name: figures[name] for name in names} for figures in repeats],
    }


def _median(figures: Sequence[Any]) -> Any:
    """Return the median of numbers, or of the numbers in mappings of one shape."""
    first = figures[0]
    if isinstance(first, Mapping):
        return {name: _median([mapping[name] for mapping in figures]) for name in first}
    return round(statistics.median(figures), 3)
