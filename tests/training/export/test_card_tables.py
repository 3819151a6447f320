"""Metrics of any shape as Markdown tables."""

from __future__ import annotations

from typing import Any

import pytest

from emotion_edge.training.export.card_tables import (
    escape,
    is_confusion,
    make_cell,
    make_title,
    render_metrics,
)

LABELS = ("angry", "happy", "sad")


def render(metrics: Any, labels: tuple[str, ...] = LABELS) -> str:
    return "\n".join(render_metrics("voice_ravdess_folds", metrics, [labels], 3))


def read_rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "---" not in line
    ]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (0.5958, "0.596"),
        (0.0, "0.000"),
        (-1.5, "-1.500"),
        (0.00012, "1.2e-04"),
        (1600, "1600"),
        (True, "yes"),
        (None, "–"),
        ("a|b\nc <i>", "a\\|b c &lt;i>"),
        ([1, 2.5, "x"], "1, 2.500, x"),
        ({"mean": 0.5, "std": 0.125, "min": 0.1}, "0.500 ± 0.125"),
        ([1] * 9, None),
        ([[1, 2], [3, 4]], None),
        ([], None),
        ({"angry": 1}, None),
    ],
)
def test_cells(value: object, cell: str | None) -> None:
    """Numbers are shortened, but not to zero; larger values are not cells."""
    assert make_cell(value) == cell


def test_titles() -> None:
    """Keys become words with the usual spelling."""
    assert make_title("face_ferplus_valid_64px") == "Face FER+ valid 64px"
    assert make_title("macro_f1") == "Macro F1"
    assert escape(" a  b\n") == "a b"


def test_scalar_metrics() -> None:
    """A heading and one row per metric, mean and deviation in one cell."""
    text = render({"uar_mean": 0.59, "n": 12, "uar_std": 0.04, "x_mean": 1.0, "protocol": "folds"})
    assert text.startswith("### Voice RAVDESS folds\n\n")
    assert read_rows(text) == [
        ["metric", "value"],
        ["UAR", "0.590 ± 0.040"],
        ["n", "12"],
        ["x mean", "1.000"],
        ["protocol", "folds"],
    ]


def test_labels() -> None:
    """Recall along the rows, precision along the columns, and the most frequent confusion."""
    text = render({"confusion": [[6, 2, 0], [0, 4, 0], [0, 0, 0]], "per_class": {"angry": {}}})
    assert read_rows(text) == [
        ["label", "recall", "precision", "examples", "most often confused with"],
        ["angry", "0.750", "1.000", "8", "happy (2)"],
        ["happy", "1.000", "0.667", "4", "–"],
        ["sad", "–", "–", "0", "–"],
    ]


def test_labels_of_a_matrix() -> None:
    """Labels of the matrix, else label sets of its size, else numbers."""
    two = {"confusion": [[3, 1], [0, 2]], "labels": ["calm", "loud"]}
    assert [row[0] for row in read_rows(render(two))] == ["label", "calm", "loud"]
    lines = render_metrics("x", {"confusion": two["confusion"]}, [LABELS, ["calm", "loud"]], 3)
    assert [row[0] for row in read_rows("\n".join(lines))] == ["label", "calm", "loud"]
    assert [row[0] for row in read_rows(render({"confusion": [[1, 0], [0, 1]]}))[1:]] == ["0", "1"]


@pytest.mark.parametrize("value", [None, [], [[1, 2]], [[1], [2, 3]], [["a"]], "x", {"a": 1}, 3])
def test_other_values_of_confusion(value: object) -> None:
    """They are not a confusion matrix, and rendering does not fail."""
    assert not is_confusion(value)
    render({"confusion": value, "n": 1})


def test_nested_metrics() -> None:
    """Conditions become rows, deeper groups get headings."""
    noise = {"20 dB": {"accuracy": 0.5, "uar": 0.4}, "0 dB": {"accuracy": 0.2, "n": 7}}
    text = render({"clean": 0.6, "noise": noise, "by": {"sex": {"f": {"deep": {"uar": 1.0}}}}})
    assert read_rows(text) == [
        ["metric", "value"],
        ["clean", "0.600"],
        ["", "accuracy", "UAR", "n"],
        ["20 dB", "0.500", "0.400", ""],
        ["0 dB", "0.200", "", "7"],
        ["", "UAR"],
        ["deep", "1.000"],
    ]
    assert "By noise:" in text
    assert "#### By" in text
    assert "##### Sex" in text


def test_lists_of_metrics() -> None:
    """One row for each item."""
    bins = [{"confidence": 0.1, "count": 3}, {"confidence": None, "count": 0}]
    assert read_rows(render({"reliability": bins})) == [
        ["", "confidence", "count"],
        ["1", "0.100", "3"],
        ["2", "–", "0"],
    ]


@pytest.mark.parametrize(
    "metrics", [{}, None, 3, "text", [], {"a": {}}, {"a": [{}]}, {"a": [1, {"b": 2}]}, {1: {2: 3}}]
)
def test_any_value_is_rendered(metrics: object) -> None:
    """Values of any type do not fail."""
    assert render(metrics).startswith("### Voice RAVDESS folds")
