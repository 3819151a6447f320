"""The metrics of a bundle as Markdown tables. Nothing is known here but their shapes: whatever is
there is shown, and what is not there is not.

In: mappings of numbers, texts, lists and further mappings. Out: lines.
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
"""Longer lists are left to bundle.json."""
MAX_HEADING_LEVEL = 6
HIDDEN_KEYS = frozenset({"confusion", "labels", "per_class"})
"""What the table by label says already."""


def render_metrics(
    name: str, metrics: Any, label_sets: Sequence[Sequence[str]], depth: int
) -> Iterator[str]:
    """Lines about one entry of the metrics, under a heading of `depth`; a confusion matrix without
    "labels" of its own has those of `label_sets` that are as many as its rows."""
    yield from ("#" * min(depth, MAX_HEADING_LEVEL) + " " + make_title(name), "")
    if not isinstance(metrics, Mapping):
        metrics = {"value": metrics}
    cells = list(_list_cells(metrics))
    if cells:
        yield from render_table(("figure", "value"), cells)
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
    """A table and the empty line after it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def make_title(name: str) -> str:
    words = make_words(name)
    return words[:1].upper() + words[1:]


def make_words(name: str) -> str:
    return escape(" ".join(WORDS.get(word, word) for word in str(name).split("_")))


def escape(text: str) -> str:
    """On one line, and harmless inside a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def make_cell(value: Any) -> str | None:
    """What fits into one cell: a number, a text, a short list, a mean with its deviation; None
    for anything larger."""
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
        cells = [make_cell(one) for one in value if isinstance(one, str | int | float)]
        if len(cells) == len(value):
            return ", ".join(cell for cell in cells if cell is not None)
    return None


def _list_cells(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whatever fits into one cell each; `x_mean` and `x_std` share one."""
    for key, value in metrics.items():
        base, _, kind = str(key).rpartition("_")
        paired = kind in {"mean", "std"} and {f"{base}_mean", f"{base}_std"} <= set(metrics)
        if key in HIDDEN_KEYS or (paired and kind == "std"):
            continue
        shown = {"mean": value, "std": metrics[f"{base}_std"]} if paired else value
        cell = make_cell(shown)
        if cell is not None:
            yield make_words(base if paired else key), cell


def _list_rows(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of a table: from a mapping or list of mappings that hold one cell each."""
    if isinstance(value, Mapping):
        rows = [(str(name), row) for name, row in value.items()]
    elif isinstance(value, list):
        rows = [(str(number), row) for number, row in enumerate(value, 1)]
    else:
        return []
    flat = all(
        isinstance(row, Mapping) and row and all(make_cell(one) is not None for one in row.values())
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
    """Whether it is a square of counts, rows of equal length."""
    try:
        counts = np.array(value)
    except ValueError:
        return False
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0
    return square and counts.dtype.kind in "iuf"


def _render_labels(
    confusion: Sequence[Sequence[float]], label_sets: Sequence[Sequence[str]]
) -> Iterator[str]:
    """Recall and precision of each label, and what it is most often taken for."""
    counts = np.array(confusion)
    fitting: Sequence[object] = next(
        (labels for labels in label_sets if len(labels) == len(counts)), range(len(counts))
    )
    names = [str(name) for name in fitting]
    shown, answered = counts.sum(axis=1), counts.sum(axis=0)
    rows = []
    for i, name in enumerate(names):
        right = counts[i, i]
        wrong = np.where(np.arange(len(counts)) == i, 0, counts[i])
        worst = int(wrong.argmax())
        rows.append(
            (
                escape(name),
                make_cell(float(right / shown[i])) or "" if shown[i] else "–",
                make_cell(float(right / answered[i])) or "" if answered[i] else "–",
                f"{shown[i]:g}",
                f"{names[worst]} ({wrong[worst]:g})" if wrong[worst] else "–",
            )
        )
    head = ("label", "recall", "precision", "examples", "most often taken for")
    yield from render_table(head, rows)
