"""CSV: its columns follow the labels of the bundle, and only the same columns are continued."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from emotion_edge.runtime.config import ConfigError, load_config
from emotion_edge.runtime.messages import Estimate, RunInfo
from emotion_edge.runtime.sinks import open_sinks

from .estimates import ESTIMATE, NOTHING

LABELS = ("calm", 'said "no", twice')
FIRST = replace(
    ESTIMATE,
    t_ns=5,
    index=1,
    label=LABELS[1],
    probabilities=dict(zip(LABELS, (0.19, 0.81), strict=True)),
)


def write(path: Path, *estimates: Estimate, labels: tuple[str, ...] = LABELS) -> None:
    config = load_config(None, ["output.clock=utc"])
    with open_sinks([f"csv:{path}"], config, replay=True) as sinks:
        sinks.observers[0].begin(RunInfo("demo", labels))
        for estimate in estimates:
            sinks.publishers[0].publish(estimate)


def test_rows(tmp_path: Path) -> None:
    """One a frame, below one header over two runs. What is missing is an empty cell."""
    path = tmp_path / "out.csv"
    write(path, FIRST)
    write(path, replace(NOTHING, t_ns=6, index=2))
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first)[:6] == ["t_ns", "utc", "index", "label", "confidence", "abstained"]
    assert (first["t_ns"], first["utc"], first["label"]) == ("5", "", LABELS[1])
    assert [first[f"p_{label}"] for label in LABELS] == ["0.19", "0.81"]
    assert (first["face_weight"], first["latency_ms"]) == ("0.7", "12.346")
    assert [second[name] for name in ("label", "abstained", "p_calm", "face_weight")] == [
        *("", "1", "", "")
    ]


def test_other_columns_are_not_mixed(tmp_path: Path) -> None:
    """The table of a bundle with other labels is left as it is."""
    path = tmp_path / "out.csv"
    write(path, FIRST)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=str(path)):
        write(path, ESTIMATE, labels=("calm", "cross"))
    assert path.read_bytes() == before
