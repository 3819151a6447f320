"""Pictures of a report of emotion-bench: the JSON file's figures in, SVG out.

Needs matplotlib, so only what writes a page imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plot_style import (
    BLUE,
    BUDGET_DASHES,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    STYLE,
    WIDTH_IN,
    YELLOW,
    encode_svg,
    put_legend_below,
    use_log_scale,
)
from .tables import find_stages, name_run
from .timeline import plot_timeline

Report = Mapping[str, Any]

STAGE_COLOURS = (GREY, YELLOW, SKY, BLUE, ORANGE, GREEN, PINK)
STAGE_HATCHES = ("", "..", "", "//", "", "\\\\", "")
RUN_STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), (PINK, ":", "D"))
TICK_RANKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
LABEL_SHARE = 0.05
"""A segment of a bar that is narrower has no room for its number."""


def draw_all(report: Report) -> dict[str, str]:
    """SVG elements by name; those for which there are no figures are left out."""
    plots: dict[str, tuple[object, Callable[[Report], Figure]]] = {
        "timeline": (report.get("series"), plot_timeline),
        "percentiles": (report.get("percentile_curve"), plot_percentiles),
        "stages": (report["stages_ms"], plot_stages),
        "models": (report.get("models"), plot_models),
        "soak": (report.get("soak"), plot_soak),
    }
    with rc_context(STYLE):
        return {name: encode_svg(draw(report)) for name, (shown, draw) in plots.items() if shown}


def plot_percentiles(report: Report) -> Figure:
    """Latency over rank, with as much room for 99 to 99.9 % as for 90 to 99 %."""
    figure = Figure(figsize=(WIDTH_IN, 4.4), layout="constrained")
    axes = figure.subplots()
    runs = {"this run": report, **(report.get("beside") or {})}
    most = 0.0
    for (name, run), (colour, dashes, mark) in zip(runs.items(), RUN_STYLES, strict=False):
        ranks, latency, marked = _read_curve(run)
        places = [_place_rank(rank, run["frames"]) for rank in ranks]
        most = max(most, *places)
        label = name_run(name, run)
        axes.plot(places, latency, dashes, color=colour, marker=mark if marked else "", label=label)
    axes.axhline(report["budget_ms"], color="black", lw=1, ls=BUDGET_DASHES, label="budget")
    ticks = [rank for rank in TICK_RANKS if _place_rank(rank) <= most]
    axes.set_xticks([_place_rank(rank) for rank in ticks], [f"{rank:g}" for rank in ticks])
    axes.set(xlabel="results that came no later, %", ylabel="capture to result, ms", xlim=(0, None))
    use_log_scale(axes)
    axes.grid(alpha=0.3)
    put_legend_below(figure, axes)
    return figure


def plot_stages(report: Report) -> Figure:
    """Where the time goes: the stages' medians on top of each other, and their p99."""
    stages = report["stages_ms"]
    figure = Figure(figsize=(WIDTH_IN, 2.5), layout="constrained")
    axes = figure.subplots()
    whole = max(sum(one[rank] for one in stages.values()) for rank in ("p50", "p99"))
    left = np.zeros(2)
    for place, (name, one) in enumerate(stages.items()):
        widths = np.array([one["p50"], one["p99"]])
        kind = place % len(STAGE_COLOURS)
        axes.barh(
            (0, 1),
            widths,
            0.62,
            left,
            color=STAGE_COLOURS[kind],
            hatch=STAGE_HATCHES[kind],
            ec="white",
            lw=0.5,
            label=name,
        )
        for row, width in enumerate(widths):
            if width > LABEL_SHARE * whole:
                middle = left[row] + width / 2
                box = {"fc": "white", "ec": "none", "pad": 1.2}
                axes.text(middle, row, f"{width:.2f}", ha="center", va="center", bbox=box)
        left += widths
    axes.set_yticks((0, 1), ("median", "p99"))
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    put_legend_below(figure, axes)
    return figure


def plot_models(report: Report) -> Figure:
    """Networks run alone, back to back, beside the stages of this run."""
    models = report["models"]
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.55 * len(models)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(models))
    kinds = (
        ("alone", list(models.values()), BLUE, "", -0.19),
        ("its stage in this run", find_stages(report), ORANGE, "//", 0.19),
    )
    for label, figures, colour, hatch, shift in kinds:
        medians = np.array([one.get("p50", np.nan) for one in figures], np.float64)
        highs = np.array([one.get("p99", np.nan) for one in figures], np.float64)
        reach = np.stack([np.zeros(len(rows)), np.maximum(highs - medians, 0)])
        axes.barh(
            rows + shift,
            medians,
            0.36,
            xerr=reach,
            color=colour,
            hatch=hatch,
            ec="white",
            label=f"{label}: median (bar) and p99 (line)",
            error_kw={"lw": 1, "capsize": 2.5},
        )
        for row, median, high in zip(rows, medians, highs, strict=True):
            if np.isfinite(high):
                text, place = f"{median:.2f}, {high:.2f}", (max(median, high), row + shift)
                axes.annotate(text, place, (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, list(models))
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlabel("ms")
    axes.margins(x=0.12)
    put_legend_below(figure, axes)
    return figure


def plot_soak(report: Report) -> Figure:
    """Resident memory, threads and file descriptors over time."""
    soak = report["soak"]
    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    memory, counts = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    memory.plot(soak["t_s"], soak["rss_mb"], color=BLUE)
    memory.set_ylabel("resident, MB")
    memory.grid(alpha=0.3)
    counts.plot(soak["t_s"], soak["threads"], color=ORANGE, label="threads")
    counts.plot(soak["t_s"], soak["fds"], "--", color=GREEN, label="file descriptors")
    counts.set(xlabel="s", ylabel="count", ylim=(0, None))
    counts.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    put_legend_below(figure, counts)
    return figure


def _read_curve(run: Report) -> tuple[Sequence[float], Sequence[float], bool]:
    """Ranks, latencies, and whether they are few single points."""
    curve = run.get("percentile_curve")
    if curve:
        return curve["rank"], curve["latency_ms"], False
    known = {
        float(name.removeprefix("p")) if name != "max" else 100.0: value
        for name, value in run["latency_ms"].items()
        if name != "mean"
    }
    ranks = sorted(known)
    return ranks, [known[rank] for rank in ranks], True


def _place_rank(rank: float, count: int = 10**9) -> float:
    """Nines: 0 for 0 %, 1 for 90 %, 2 for 99 %. The largest of `count` stands where one is left."""
    return float(-np.log10(max(1 - rank / 100, 1 / count)))
