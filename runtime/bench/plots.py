"""The plots of a report: figures as in the JSON file in, SVG elements out.

Needs matplotlib, so only `html` imports this, when a page is wanted. Colours are those of Okabe and
Ito 2008, which colour-blind people can distinguish. Lines and bars differ in dashes and hatching as
well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from .report import find_stages, name_run

Report = Mapping[str, Any]
Floats = NDArray[np.float64]

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
YELLOW, SKY = "#F0E442", "#56B4E9"
WIDTH_IN = 10.0
BUDGET_DASHES = (0, (4, 2))

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "emotion-bench",  # the same figures give the same file
    "text.parse_math": False,  # names may hold dollar signs
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
STAGE_COLOURS = (GREY, YELLOW, SKY, BLUE, ORANGE, GREEN, PINK)
STAGE_HATCHES = ("", "..", "", "//", "", "\\\\", "")
RUN_STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"), (PINK, ":", "D"))
TICK_RANKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
LABEL_SHARE = 0.05
"""A narrower segment of a bar has no room for its number."""
MAX_POINTS = 1200
"""More results are drawn as the range and the median of each of `TIME_BINS`."""
TIME_BINS = 600
GAP_S = 0.5
"""The line is broken where no result came for this long."""
LOG_FROM = 8.0
"""The latency axis is logarithmic when its end is this many times the median."""
LETTER_IN = 0.085
"""Width of a character of a phase's name."""


def draw_all(report: Report) -> dict[str, str]:
    """Return SVG elements by name. A plot without figures is left out."""
    plots: dict[str, tuple[object, Callable[[Report], Figure]]] = {
        "timeline": (report.get("series"), plot_timeline),
        "percentiles": (report.get("percentile_curve"), plot_percentiles),
        "stages": (report["stages_ms"], plot_stages),
        "models": (report.get("models"), plot_models),
        "soak": (report.get("soak"), plot_soak),
    }
    with rc_context(STYLE):
        return {name: _encode_svg(draw(report)) for name, (shown, draw) in plots.items() if shown}


def plot_timeline(report: Report) -> Figure:
    """Plot the latency of this run and the runs beside it on one scale, and the level below."""
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
            _use_log_scale(axes)
            axes.set_ylim(0.8 * max(latency.min(), 0.01), 1.3 * max(latency.max(), budget_ms))
        else:
            axes.set_ylim(0, 1.1 * max(latency.max(), budget_ms))
    _plot_level(lower, report["series"])
    for axes in (*upper, lower):
        _shade_phases(axes, report, named=axes is upper[0])
    lower.set_xlim(0, max(run["series"]["t_s"][-1] for run in shown.values()) or 1)
    _put_legend_below(figure, *upper)
    return figure


def plot_percentiles(report: Report) -> Figure:
    """Plot latency over rank, with as much room for 99 to 99.9 % as for 90 to 99 %."""
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
    axes.set(xlabel="share of results, %", ylabel="capture to result, ms", xlim=(0, None))
    _use_log_scale(axes)
    axes.grid(alpha=0.3)
    _put_legend_below(figure, axes)
    return figure


def plot_stages(report: Report) -> Figure:
    """Plot the medians of all stages on top of each other, and their p99."""
    stages = report["stages_ms"]
    figure = Figure(figsize=(WIDTH_IN, 2.5), layout="constrained")
    axes = figure.subplots()
    whole = max(sum(times[rank] for times in stages.values()) for rank in ("p50", "p99"))
    left = np.zeros(2)
    for place, (name, times) in enumerate(stages.items()):
        widths = np.array([times["p50"], times["p99"]])
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
    _put_legend_below(figure, axes)
    return figure


def plot_models(report: Report) -> Figure:
    """Plot networks run alone, back to back, beside the stages of this run."""
    models = report["models"]
    figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.55 * len(models)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(models))
    kinds = (
        ("alone", list(models.values()), BLUE, "", -0.19),
        ("its stage in this run", find_stages(report), ORANGE, "//", 0.19),
    )
    for label, figures, colour, hatch, shift in kinds:
        medians = np.array([times.get("p50", np.nan) for times in figures], np.float64)
        highs = np.array([times.get("p99", np.nan) for times in figures], np.float64)
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
    _put_legend_below(figure, axes)
    return figure


def plot_soak(report: Report) -> Figure:
    """Plot resident memory, threads and file descriptors over time."""
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
    _put_legend_below(figure, counts)
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
        bin_s, least, median, most = _summarise_bins(t_s, latency)
        late_s, late = bin_s[most > budget_ms], most[most > budget_ms]
        label = f"fastest to slowest in {(t_s[-1] - t_s[0]) / TIME_BINS:.2g} s"
        axes.fill_between(bin_s, least, most, color=BLUE, alpha=0.3, lw=0.4, label=label)
        axes.plot(bin_s, median, color=BLUE, lw=1, label="median of them")
    axes.axhline(budget_ms, color="black", lw=1, ls=BUDGET_DASHES, label=f"budget {budget_ms:g} ms")
    if len(late):
        axes.plot(late_s, late, "x", color=ORANGE, ms=4, mew=1, label="missed the budget")


def _summarise_bins(t_s: Floats, latency: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return time, minimum, median and maximum of each bin, NaN without a result."""
    edges = np.linspace(t_s[0], t_s[-1], TIME_BINS + 1)
    parts = np.split(latency, np.searchsorted(t_s, edges[1:-1]))
    rows = [
        (part.min(), float(np.median(part)), part.max()) if len(part) else (np.nan,) * 3
        for part in parts
    ]
    least, median, most = np.array(rows, np.float64).T
    return (edges[:-1] + edges[1:]) / 2, least, median, most


def _plot_level(axes: Axes, series: Report) -> None:
    """Plot steps, with the best level at the top."""
    t_s, level = np.array(series["t_s"], np.float64), np.array(series["level"])
    changes = np.flatnonzero(np.diff(level, prepend=-1))
    axes.plot(
        [*t_s[changes], t_s[-1]],
        [*level[changes], level[-1]],
        color="black",
        drawstyle="steps-post",
    )
    axes.plot(t_s[changes[1:]], level[changes[1:]], "o", color="black", ms=3)
    axes.set_yticks(range(len(series["levels"])), series["levels"])
    axes.set(ylim=(len(series["levels"]) - 0.5, -0.5), xlabel="s", ylabel="level")


def _shade_phases(axes: Axes, report: Report, named: bool) -> None:
    """Shade every second phase, and write names above where they have room."""
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


def _read_curve(run: Report) -> tuple[Sequence[float], Sequence[float], bool]:
    """Return ranks, latencies, and whether they are few single points."""
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
    """Return nines: 0 for 0 %, 1 for 90 %, 2 for 99 %. 100 % is the rank of the last of `count`."""
    return float(-np.log10(max(1 - rank / 100, 1 / count)))


def _encode_svg(figure: Figure) -> str:
    """Return one <svg> element for a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=_NO_METADATA)
    text = file.getvalue()
    # Groups have the same ids in every figure, and nothing refers to them.
    return re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])


def _put_legend_below(figure: Figure, *all_axes: Axes) -> None:
    """Put one legend of all axes below the plot, with every name once."""
    shown: dict[str, Any] = {}
    for axes in all_axes:
        handles, names = axes.get_legend_handles_labels()
        shown.update(zip(names, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), frameon=False
    )


def _use_log_scale(axes: Axes) -> None:
    """Mark 1, 2 and 5 times the powers of ten, as plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
