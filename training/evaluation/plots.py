"""Plots of an evaluation's metrics. In: the JSON of `emotion-train evaluate`. Out: PNG.

Colors are those of Okabe and Ito 2008, which color-blind people tell apart, and viridis, which
also gets lighter in grey print.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
DPI = 150
MAX_BARS = 40
"""Of more people than this the 20 worst and the 20 best are plotted."""
NUM_ROOMY = 7
"""Labels that fit into the usual width of a plot."""
MAX_NAME = 18
"""Letters of a person's name on an axis."""

Metrics = Mapping[str, Any]


def plot_all(metrics: Metrics, names: Collection[str] = ()) -> dict[str, bytes]:
    """Return PNG files by name without suffix: all, or those of `names`. Plots without metrics are
    left out."""
    plots: dict[str, tuple[bool, Callable[[Metrics], Figure]]] = {
        "confusion": (True, plot_confusion),
        "recall": (True, plot_recall),
        "reliability": (True, plot_reliability),
        "risk_coverage": (True, plot_risk_coverage),
        "subjects": (len(metrics["subjects"]) > 1, plot_subjects),
        "robustness": (bool(metrics.get("robustness")), plot_robustness),
    }
    caption = (
        f"{metrics['modality']} on {metrics['dataset']}, n {metrics['n']};"
        f" bundle {metrics['bundle_name']} {metrics['bundle'][:12]}"
    )
    return {
        name: encode_figure(draw(metrics), caption)
        for name, (shown, draw) in plots.items()
        if shown and (not names or name in names)
    }


def encode_figure(figure: Figure, caption: str) -> bytes:
    """Return a PNG file. Its `caption` describes it where it stands alone."""
    figure.suptitle(caption, fontsize=8, color=GREY)
    file = io.BytesIO()
    # Without the library's version and the time, so that equal metrics give equal files.
    figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def plot_confusion(metrics: Metrics) -> Figure:
    """Plot the confusion matrix: counts above 0, colored by share of the true label's examples."""
    confusion = np.array(metrics["confusion"])
    support = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(support, 1)
    labels = metrics["labels"]
    more = max(0, len(confusion) - NUM_ROOMY)
    figure = Figure(figsize=(6.4 + 0.5 * more, 5.4 + 0.4 * more), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * share, cmap="viridis", vmin=0, vmax=100)
    for row, column in np.argwhere(confusion):
        axes.text(
            column,
            row,
            f"{confusion[row, column]}\n{100 * share[row, column]:.0f} %",
            ha="center",
            va="center",
            fontsize=8,
            color="black" if share[row, column] > 0.6 else "white",
        )
    axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    counted = [f"{label} ({n})" for label, n in zip(labels, support[:, 0], strict=True)]
    axes.set_yticks(range(len(labels)), counted)
    axes.set(title="Confusion matrix", xlabel="answer", ylabel="true label (number of examples)")
    figure.colorbar(image, label="% of the true label's examples")
    return figure


def plot_recall(metrics: Metrics) -> Figure:
    """Plot recall and precision of each label."""
    per_class = metrics["per_class"]
    more = max(0, len(per_class) - NUM_ROOMY)
    figure = Figure(figsize=(7.2 + 0.7 * more, 4.0), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(per_class))
    kinds = (("recall", BLUE, "", -0.2), ("precision", ORANGE, "//", 0.2))
    for name, color, hatch, shift in kinds:
        values = [one[name] for one in per_class.values()]
        heights = [100 * (value or 0.0) for value in values]
        axes.bar(places + shift, heights, 0.4, label=name, color=color, hatch=hatch, ec="white")
        for place, value, height in zip(places, values, heights, strict=True):
            text = "none" if value is None else f"{height:.0f}"
            axes.text(place + shift, height + 1, text, ha="center", va="bottom", fontsize=8)
    axes.axhline(100 * metrics["uar"], color=GREY, ls="--", label="mean recall (UAR)")
    names = [f"{label}\n(n {values['support']})" for label, values in per_class.items()]
    axes.set_xticks(places, names, rotation=35 if more else 0)
    axes.set(title="Recall and precision of each label", ylabel="%", ylim=(0, 112))
    axes.set_yticks(range(0, 101, 20))
    _put_legend_below(figure, axes, 3)
    return figure


def plot_reliability(metrics: Metrics) -> Figure:
    """Plot accuracy over confidence, and how many predictions have each confidence."""
    bins = [one for one in metrics["reliability"] if one["count"]]
    width = 1 / len(metrics["reliability"])
    edges = [i * width for i, one in enumerate(metrics["reliability"]) if one["count"]]
    figure = Figure(figsize=(5.6, 5.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, ls="--", label="perfectly calibrated")
    accuracy = [one["accuracy"] for one in bins]
    upper.bar(edges, accuracy, width, align="edge", color=BLUE, alpha=0.35, ec="white")
    confidence = [one["confidence"] for one in bins]
    upper.plot(confidence, accuracy, "o-", color=BLUE, label="this bundle")
    upper.set(
        title=f"Reliability (calibration error {100 * metrics['ece']:.1f} %)",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    upper.legend(loc="upper left")
    lower.bar(edges, [one["count"] for one in bins], width, align="edge", color=GREY, ec="white")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    lower.set(xlabel="confidence of the answer", ylabel="examples")
    return figure


def plot_risk_coverage(metrics: Metrics) -> Figure:
    """Plot accuracy over the share of examples with a label, the most confident first."""
    points = metrics["risk_coverage"]
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [100 * point["coverage"] for point in points],
        [100 * point["accuracy"] for point in points],
        "o-",
        color=BLUE,
    )
    axes.axhline(100 * metrics["accuracy"], color=GREY, ls="--")
    axes.set(
        title="Accuracy when only the surest answers count",
        xlabel="answered examples, %",
        ylabel="accuracy, %",
        xlim=(0, 103),
    )
    axes.set_ylim(max(0.0, axes.get_ylim()[0]), min(102.0, axes.get_ylim()[1] + 2))
    return figure


def plot_subjects(metrics: Metrics) -> Figure:
    """Plot the accuracy of each person, worst first."""
    people = sorted(metrics["subjects"].items(), key=lambda item: item[1]["accuracy"])
    title = "Accuracy of each person"
    if len(people) > MAX_BARS:
        half = MAX_BARS // 2
        title += f": {half} worst and {half} best of {len(people)}"
        people = [*people[:half], *people[-half:]]
    figure = Figure(figsize=(max(5.0, 1.6 + 0.32 * len(people)), 4.2), layout="constrained")
    axes = figure.subplots()
    places = range(len(people))
    axes.bar(places, [100 * one["accuracy"] for _, one in people], color=BLUE)
    mean = 100 * metrics["subject_accuracy"]["mean"]
    std = 100 * metrics["subject_accuracy"]["std"]
    axes.axhline(mean, color=ORANGE, label=f"mean over people {mean:.1f} %")
    axes.axhspan(
        mean - std,
        mean + std,
        color=ORANGE,
        alpha=0.2,
        zorder=0,
        label=f"± 1 standard deviation {std:.1f}",
    )
    short = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…" for name, _ in people]
    axes.set_xticks(places, short, rotation=0 if max(map(len, short)) < 3 else 60)
    axes.set(title=title, xlabel="person", ylabel="accuracy, %", ylim=(0, 102))
    _put_legend_below(figure, axes, 2)
    return figure


def plot_robustness(metrics: Metrics) -> Figure:
    """Plot accuracy and UAR over the strength of each condition, strongest to the right, with the
    clean values."""
    clean, *rows = metrics["robustness"]
    names = list(dict.fromkeys(row["condition"] for row in rows))
    num_columns = min(3, len(names))
    num_rows = -(-len(names) // num_columns)
    figure = Figure(figsize=(3.4 * num_columns, 0.9 + 2.7 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
    kinds = (("accuracy", BLUE, "o-"), ("uar", ORANGE, "s--"))
    for axes, name in zip(grid.flat, names, strict=False):
        chosen = [row for row in rows if row["condition"] == name]
        places = range(len(chosen))
        for key, color, style in kinds:
            values = [100 * row[key] for row in chosen]
            label = "UAR" if key == "uar" else key
            axes.plot(places, values, style, color=color, label=label)
            axes.axhline(100 * clean[key], color=color, ls=":", label=f"{label}, clean")
        axes.set_xticks(places, [f"{row['strength']:g}" for row in chosen])
        axes.set(title=name, xlabel=chosen[0]["unit"], ylim=(0, 102))
        axes.margins(x=0.15)
        if len(chosen) == 1 and not chosen[0]["unit"]:
            axes.set_xticks([])
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("%")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _put_legend_below(figure: Figure, axes: Any, num_columns: int) -> None:
    """Place the legend outside, where it covers no bar."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=num_columns)


def plot_curves(networks: Sequence[tuple[str, Metrics]]) -> Figure:
    """Plot loss and validation accuracy over the epochs of each network: (name, {"loss": …,
    "validation": …})."""
    num_columns = min(3, len(networks))
    num_rows = -(-len(networks) // num_columns)
    figure = Figure(figsize=(4.0 * num_columns, 0.6 + 2.8 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in grid.flat[len(networks) :]:
        axes.set_visible(False)
    for axes, (name, curves) in zip(grid.flat, networks, strict=False):
        epochs = range(1, len(curves["loss"]) + 1)
        axes.plot(epochs, curves["loss"], "-", color=BLUE, label="loss")
        axes.set(title=name, xlabel="epoch", ylabel="loss", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        scores = [
            (n, 100 * one) for n, one in enumerate(curves["validation"], 1) if one is not None
        ]
        if scores:
            right = axes.twinx()
            right.plot(*zip(*scores, strict=True), "--", color=ORANGE)
            right.set(ylabel="validation accuracy, % (dashed)", ylim=(0, 102))
            right.yaxis.label.set_color(ORANGE)
    return figure
