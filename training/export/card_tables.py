"""Markdown tables of the metrics of a bundle.

In: mappings of numbers, texts, lists and further mappings. Out: lines. The layout depends on the
shape of the values only, so that any metrics can be shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

WORDS = {
    "ferplus": "FER+",
    "ravdess": "RAVDESS",
    "uar": "UAR",
    "f1": "F1",
    "ece": "ECE",
    "units": "action units",
    "onnx": "ONNX",
    "int8": "INT8",
    "ci95": "95 % interval",
}
MAX_LISTED = 8
"""Longer lists are in bundle.json only."""
MAX_HEADING_LEVEL = 6
HIDDEN_KEYS = frozenset({"confusion", "labels", "per_class"})
"""Keys that the table by label already shows."""


def render_metrics(
    name: str, metrics: Any, label_sets: Sequence[Sequence[str]], depth: int
) -> Iterator[str]:
    """Yield the lines of one entry of the metrics, under a heading of level `depth`. A confusion
    matrix without "labels" has those of `label_sets` that match its size."""
    yield from ("#" * min(depth, MAX_HEADING_LEVEL) + " " + make_title(name), "")
    if not isinstance(metrics, Mapping):
        metrics = {"value": metrics}
    cells = list(_list_cells(metrics))
    if cells:
        yield from render_table(("metric", "value"), cells)
    if is_confusion(metrics.get("confusion")):
        own = metrics.get("labels")
        yield from _render_labels(metrics["confusion"], [own] if own else label_sets)
    for key, value in metrics.items():
        if key in HIDDEN_KEYS or make_cell(value) is not None:
            continue
        rows = _list_rows(value)
        if rows:
            yield from (f"By {make_words(key)}:", "")
            yield from _render_rows(rows)
        elif isinstance(value, Mapping) and value:
            yield from render_metrics(key, value, label_sets, depth + 1)


def render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table and an empty line."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def make_title(name: str) -> str:
    """Return the heading of a key."""
    words = make_words(name)
    return words[:1].upper() + words[1:]


def make_words(name: str) -> str:
    """Convert a key to words."""
    return escape(" ".join(WORDS.get(word, word) for word in str(name).split("_")))


def escape(text: str) -> str:
    """Return the text on one line, safe inside a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def make_cell(value: Any) -> str | None:
    """Format a number, a text, a short list, or a mean with its deviation; None otherwise."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, bool | int):
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    if isinstance(value, Mapping) and {"mean", "std"} <= set(value):
        return f"{make_cell(value['mean'])} ± {make_cell(value['std'])}"
    if isinstance(value, list | tuple) and 0 < len(value) <= MAX_LISTED:
        cells = [make_cell(item) for item in value if isinstance(item, str | int | float)]
        if len(cells) == len(value):
            return ", ".join(cell for cell in cells if cell is not None)
    return None


def _list_cells(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield keys and values that fit into a cell; `x_mean` and `x_std` share one."""
    for key, value in metrics.items():
        base, _, kind = str(key).rpartition("_")
        paired = kind in {"mean", "std"} and {f"{base}_mean", f"{base}_std"} <= set(metrics)
        if key in HIDDEN_KEYS or (paired and kind == "std"):
            continue
        cell = make_cell({"mean": value, "std": metrics[f"{base}_std"]} if paired else value)
        if cell is not None:
            yield make_words(base if paired else key), cell


def _list_rows(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the rows of a table, if the value is a mapping or list of mappings of cells."""
    if isinstance(value, Mapping):
        rows = [(str(name), row) for name, row in value.items()]
    elif isinstance(value, list):
        rows = [(str(number), row) for number, row in enumerate(value, 1)]
    else:
        return []
    flat = all(
        isinstance(row, Mapping)
        and row
        and all(make_cell(cell) is not None for cell in row.values())
        for _, row in rows
    )
    return rows if flat else []


def _render_rows(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for _, row in rows for key in row))
    yield from render_table(
        ("", *map(make_words, columns)),
        [
            (
                make_words(name),
                *(make_cell(row[key]) or "" if key in row else "" for key in columns),
            )
            for name, row in rows
        ],
    )


def is_confusion(value: Any) -> bool:
    """Whether the value is a square matrix of counts."""
    try:
        counts = np.array(value)
    except ValueError:
        return False
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0
    return square and counts.dtype.kind in "iuf"


def _render_labels(
    confusion: Sequence[Sequence[float]], label_sets: Sequence[Sequence[str]]
) -> Iterator[str]:
    """Yield recall, precision and the most frequent confusion of each label."""
    counts = np.array(confusion)
    matching: Sequence[object] = next(
        (labels for labels in label_sets if len(labels) == len(counts)), range(len(counts))
    )
    names = [str(name) for name in matching]
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    rows = []
    for i, name in enumerate(names):
        correct = counts[i, i]
        confused = np.where(np.arange(len(counts)) == i, 0, counts[i])
        most = int(confused.argmax())
        rows.append(
            (
                escape(name),
                make_cell(float(correct / support[i])) or "" if support[i] else "–",
                make_cell(float(correct / predicted[i])) or "" if predicted[i] else "–",
                f"{support[i]:g}",
                f"{escape(names[most])} ({confused[most]:g})" if confused[most] else "–",
            )
        )
    head = ("label", "recall", "precision", "examples", "most often confused with")
    yield from render_table(head, rows)
