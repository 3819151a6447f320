"""Latency and level over time: the part of a page that shows what happened when.

Needs matplotlib, as plots.py does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .plot_style import BLUE, BUDGET_DASHES, GREY, ORANGE, WIDTH_IN, put_legend_below, use_log_scale
from .tables import name_run

Report = Mapping[str, Any]
Floats = NDArray[np.float64]

MAX_POINTS = 1200
"""More results than this are drawn as the span and the median of each of `TIME_BINS`."""
TIME_BINS = 600
GAP_S = 0.5
"""Without a result for so long, the line is broken."""
LOG_FROM = 8.0
"""The axis' end over the median latency, from which a linear axis would show little of it."""
LETTER_IN = 0.085
"""What a letter of a phase's name takes."""


def plot_timeline(report: Report) -> Figure:
    """This run and the runs beside it on the same scale, one below the other, then the level."""
    runs = {"this run": report, **(report.get("beside") or {})}
    shown = {name_run(name, run): run for name, run in runs.items() if _has_series(run)}
    heights = [*([2.3] * len(shown)), 0.35 + 0.2 * len(report["series"]["levels"])]
    figure = Figure(figsize=(WIDTH_IN, 0.9 + sum(heights)), layout="constrained")
    *upper, lower = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    latency = np.concatenate([run["series"]["latency_ms"] for run in shown.values()])
    budget_ms = report["budget_ms"]
    for axes, (name, run) in zip(upper, shown.items(), strict=True):
        _plot_latency(axes, run["series"], budget_ms)
        axes.set_ylabel(f"{name}\ncapture to result, ms")
        axes.grid(alpha=0.3)
        if max(latency.max(), budget_ms) > LOG_FROM * np.median(latency):
            use_log_scale(axes)
            axes.set_ylim(0.8 * max(latency.min(), 0.01), 1.3 * max(latency.max(), budget_ms))
        else:
            axes.set_ylim(0, 1.1 * max(latency.max(), budget_ms))
    _plot_level(lower, report["series"])
    for axes in (*upper, lower):
        _shade_phases(axes, report, named=axes is upper[0])
    lower.set_xlim(0, max(run["series"]["t_s"][-1] for run in shown.values()) or 1)
    put_legend_below(figure, *upper)
    return figure


def _has_series(run: Report) -> bool:
    return bool((run.get("series") or {}).get("t_s"))


def _plot_latency(axes: Axes, series: Report, budget_ms: float) -> None:
    t_s = np.array(series["t_s"], np.float64)
    latency = np.array(series["latency_ms"], np.float64)
    if len(t_s) <= MAX_POINTS:
        late_s, late = t_s[latency > budget_ms], latency[latency > budget_ms]
        broken = np.where(np.diff(t_s, append=t_s[-1]) > GAP_S, np.nan, latency)
        axes.plot(t_s, latency, ".", color=BLUE, ms=2.5, label="result")
        axes.plot(t_s, broken, color=BLUE, lw=0.5, alpha=0.6)
    else:
        moment_s, least, median, most = _summarise_bins(t_s, latency)
        late_s, late = moment_s[most > budget_ms], most[most > budget_ms]
        label = f"fastest to slowest in {(t_s[-1] - t_s[0]) / TIME_BINS:.2g} s"
        axes.fill_between(moment_s, least, most, color=BLUE, alpha=0.3, lw=0.4, label=label)
        axes.plot(moment_s, median, color=BLUE, lw=1, label="median of them")
    axes.axhline(budget_ms, color="black", lw=1, ls=BUDGET_DASHES, label=f"budget {budget_ms:g} ms")
    if len(late):
        axes.plot(late_s, late, "x", color=ORANGE, ms=4, mew=1, label="missed the budget")


def _summarise_bins(t_s: Floats, latency: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Time, least, median and most of each moment; NaN where there was no result."""
    edges = np.linspace(t_s[0], t_s[-1], TIME_BINS + 1)
    parts = np.split(latency, np.searchsorted(t_s, edges[1:-1]))
    rows = [
        (part.min(), float(np.median(part)), part.max()) if len(part) else (np.nan,) * 3
        for part in parts
    ]
    least, median, most = np.array(rows, np.float64).T
    return (edges[:-1] + edges[1:]) / 2, least, median, most


def _plot_level(axes: Axes, series: Report) -> None:
    """Steps; the best level is at the top."""
    t_s, level = np.array(series["t_s"], np.float64), np.array(series["level"])
    kept = np.flatnonzero(np.diff(level, prepend=-1))  # where it changes
    axes.plot(
        [*t_s[kept], t_s[-1]], [*level[kept], level[-1]], color="black", drawstyle="steps-post"
    )
    axes.plot(t_s[kept[1:]], level[kept[1:]], "o", color="black", ms=3)
    axes.set_yticks(range(len(series["levels"])), series["levels"])
    axes.set(ylim=(len(series["levels"]) - 0.5, -0.5), xlabel="s", ylabel="level")


def _shade_phases(axes: Axes, report: Report, named: bool) -> None:
    """Every second phase is grey; names stand above where they have room."""
    phases = report.get("phases") or ()
    whole_s = max((phase["to_s"] for phase in phases), default=0.0)
    for place, phase in enumerate(phases):
        start_s, end_s = phase["from_s"], phase["to_s"]
        if place % 2:
            axes.axvspan(start_s, end_s, color=GREY, alpha=0.15, lw=0, zorder=0)
        room_in = 0.85 * WIDTH_IN * (end_s - start_s) / whole_s
        if named and len(phase["name"]) * LETTER_IN < room_in:
            middle = (start_s + end_s) / 2
            across = axes.get_xaxis_transform()
            axes.text(middle, 1.02, phase["name"], transform=across, ha="center", va="bottom")
