"""The plots of an analyzed clip: estimates in, SVG elements out.

Needs matplotlib, so it is imported when a page is wanted. Colors are those of Okabe and Ito 2008;
further labels differ in their hatching.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..messages import Estimate
from .segments import Segment, show_time

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#767676")
DARK = "#444444"
HATCHES = ("", "//", "..", "\\\\", "xx")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "emotion-edge",
    "text.parse_math": False,  # labels may hold dollar signs
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
WIDTH_IN = 10.0
MAX_POINTS = 500
"""More estimates are drawn as so many bins: mean probabilities, longest times."""


def plot_clip(
    estimates: Sequence[Estimate], segments: Sequence[Segment], labels: Sequence[str]
) -> str:
    """Return the timeline: the label over time, the probabilities, face and voice, the time that
    each frame took."""
    t_s = np.array([estimate.t_ns / 1e9 for estimate in estimates])
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 5.6), layout="constrained")
        strip, area, heard, took = figure.subplots(
            4, 1, sharex=True, height_ratios=[0.5, 2.6, 0.7, 1.1]
        )
        _draw_strip(strip, segments, labels)
        _draw_probabilities(area, t_s, estimates, labels)
        _draw_modalities(heard, t_s, estimates)
        _draw_times(took, t_s, estimates)
        for axes in (strip, area, heard, took):
            axes.set_xlim(t_s[0], max(t_s[-1], t_s[0] + 1e-3))
        took.xaxis.set_major_formatter(FuncFormatter(lambda at, _: show_time(round(at * 1e9))))
        took.xaxis.set_major_locator(MaxNLocator(8))
        took.set_xlabel("time of the clip")
        return _encode_svg(figure)


def _draw_strip(axes: Axes, segments: Sequence[Segment], labels: Sequence[str]) -> None:
    """Draw the label of each time as a band; where the program abstained there is none."""
    for segment in segments:
        if segment.label in labels:
            color, hatch = _find_look(labels.index(segment.label))
            begin_s, end_s = segment.begin_ns / 1e9, segment.end_ns / 1e9
            axes.axvspan(begin_s, end_s, facecolor=color, hatch=hatch, edgecolor="white", lw=0)
    axes.set_yticks([])
    axes.set_ylabel("label", rotation=0, ha="right", va="center")


def _draw_probabilities(
    axes: Axes, t_s: NDArray[np.float64], estimates: Sequence[Estimate], labels: Sequence[str]
) -> None:
    rows = np.array(
        [[estimate.probabilities.get(label, 0.0) for label in labels] for estimate in estimates]
    )
    bins = _find_bins(len(t_s))
    means = np.add.reduceat(rows, bins, axis=0) / np.diff([*bins, len(t_s)])[:, None]
    areas = axes.stackplot(t_s[bins], means.T, labels=labels, lw=0)
    for number, area in enumerate(areas):
        color, hatch = _find_look(number)
        area.set(facecolor=color, hatch=hatch, edgecolor="white")
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        ncols=1 + len(labels) // 12,
        reverse=True,  # as they lie on each other
    )


def _draw_modalities(axes: Axes, t_s: NDArray[np.float64], estimates: Sequence[Estimate]) -> None:
    """Draw when a face was seen and a voice was read, as two lines."""
    for row, (name, has) in enumerate(
        (
            ("voice", [estimate.voice is not None for estimate in estimates]),
            ("face", [estimate.face is not None for estimate in estimates]),
        )
    ):
        shown = np.where(has, float(row), np.nan)
        axes.plot(t_s, shown, color=DARK, lw=4, solid_capstyle="butt", label=name)
    axes.set_ylim(-0.6, 1.6)
    axes.set_yticks([0, 1], ["voice", "face"])


def _draw_times(axes: Axes, t_s: NDArray[np.float64], estimates: Sequence[Estimate]) -> None:
    took_ms = np.array([estimate.latency_us / 1e3 for estimate in estimates])
    bins = _find_bins(len(t_s))
    axes.plot(t_s[bins], np.maximum.reduceat(took_ms, bins), ".", ms=2.5, color=COLORS[7])
    axes.axhline(float(np.median(took_ms)), color=COLORS[1], lw=1, ls="--")
    axes.set_ylim(0, None)
    axes.set_ylabel("frame took, ms")


def _find_bins(count: int) -> NDArray[np.intp]:
    """Return the first index of each of at most `MAX_POINTS` bins."""
    return np.unique(np.linspace(0, count, min(count, MAX_POINTS), endpoint=False).astype(np.intp))


def _find_look(number: int) -> tuple[str, str]:
    """Return the color and the hatching of a label."""
    round_, color = divmod(number, len(COLORS))
    return COLORS[color], HATCHES[round_ % len(HATCHES)]


def _encode_svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=NO_METADATA)
    return re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)
