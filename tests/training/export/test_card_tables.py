"""Metrics as Markdown: whatever there is, as it is."""

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


def render(figures: Any, labels: tuple[str, ...] = LABELS) -> str:
    return "\n".join(render_metrics("voice_ravdess_folds", figures, [labels], 3))


def rows_of(text: str) -> list[list[str]]:
    """The cells of every line of a table, the dashes left out."""
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
    """Numbers are shortened, never rounded to nothing; what is too large is no cell."""
    assert make_cell(value) == cell


def test_titles() -> None:
    """Names of the metrics, for people."""
    assert make_title("face_ferplus_valid_64px") == "Face FER+ valid 64px"
    assert make_title("macro_f1") == "Macro F1"
    assert escape(" a  b\n") == "a b"


def test_figures() -> None:
    """Heading, one row a figure, mean and deviation together."""
    text = render({"uar_mean": 0.59, "n": 12, "uar_std": 0.04, "x_mean": 1.0, "protocol": "folds"})
    assert text.startswith("### Voice RAVDESS folds\n\n")
    assert rows_of(text) == [
        ["figure", "value"],
        ["UAR", "0.590 ± 0.040"],
        ["n", "12"],
        ["x mean", "1.000"],
        ["protocol", "folds"],
    ]


def test_labels() -> None:
    """Recall along the rows, precision down the columns, and the most frequent mistake."""
    text = render({"confusion": [[6, 2, 0], [0, 4, 0], [0, 0, 0]], "per_class": {"angry": {}}})
    assert rows_of(text) == [
        ["label", "recall", "precision", "examples", "most often taken for"],
        ["angry", "0.750", "1.000", "8", "happy (2)"],
        ["happy", "1.000", "0.667", "4", "–"],
        ["sad", "–", "–", "0", "–"],
    ]


def test_labels_of_its_own() -> None:
    """A matrix over other labels says which; one that nobody named gets numbers."""
    two = {"confusion": [[3, 1], [0, 2]], "labels": ["calm", "loud"]}
    assert [row[0] for row in rows_of(render(two))] == ["label", "calm", "loud"]
    lines = render_metrics("x", {"confusion": two["confusion"]}, [LABELS, ["calm", "loud"]], 3)
    assert [row[0] for row in rows_of("\n".join(lines))] == ["label", "calm", "loud"]
    assert [row[0] for row in rows_of(render({"confusion": [[1, 0], [0, 1]]}))[1:]] == ["0", "1"]


@pytest.mark.parametrize("value", [None, [], [[1, 2]], [[1], [2, 3]], [["a"]], "x", {"a": 1}, 3])
def test_what_is_no_confusion(value: object) -> None:
    """It is not taken for one, and nothing fails."""
    assert not is_confusion(value)
    render({"confusion": value, "n": 1})


def test_nested_metrics() -> None:
    """Conditions become rows, deeper groups get headings of their own."""
    noise = {"20 dB": {"accuracy": 0.5, "uar": 0.4}, "0 dB": {"accuracy": 0.2, "n": 7}}
    text = render({"clean": 0.6, "noise": noise, "by": {"sex": {"f": {"deep": {"uar": 1.0}}}}})
    assert rows_of(text) == [
        ["figure", "value"],
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
    """Bins of a calibration, one row each."""
    bins = [{"confidence": 0.1, "count": 3}, {"confidence": None, "count": 0}]
    assert rows_of(render({"reliability": bins})) == [
        ["", "confidence", "count"],
        ["1", "0.100", "3"],
        ["2", "–", "0"],
    ]


@pytest.mark.parametrize(
    "figures", [{}, None, 3, "text", [], {"a": {}}, {"a": [{}]}, {"a": [1, {"b": 2}]}, {1: {2: 3}}]
)
def test_anything_can_be_shown(figures: object) -> None:
    """A card is written whatever was measured."""
    assert render(figures).startswith("### Voice RAVDESS folds")
