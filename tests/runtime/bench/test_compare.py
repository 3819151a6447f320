"""Comparison of two reports: what counts as a difference, and which files are refused."""

from __future__ import annotations

import json
import os
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.runtime.bench import compare
from emotion_edge.runtime.bench.compare import (
    UNKNOWN,
    WITHIN_NOISE,
    Row,
    compare_reports,
    load_report,
    print_comparison,
)
from emotion_edge.runtime.config import ConfigError

from .made_reports import make_report


def with_repeats(report: dict[str, Any], *p99_ms: float) -> dict[str, Any]:
    """Return the report with repeats of these p99."""
    latency = report["latency_ms"]
    repeats = [
        {"latency_ms": {**latency, "p99": value}, "misses": 0, "frames": 600} for value in p99_ms
    ]
    return {**report, "latency_ms": {**latency, "p99": sorted(p99_ms)[1]}, "repeats": repeats}


def find_row(old: dict[str, Any], new: dict[str, Any], name: str) -> Row:
    return next(row for row in compare_reports(old, new).rows if row.name == name)


@pytest.mark.parametrize(
    ("now_ms", "verdict"),
    [
        (3.9, "faster"),
        (4.1, WITHIN_NOISE),
        (5.0, WITHIN_NOISE),
        (5.9, WITHIN_NOISE),
        (6.1, "slower"),
    ],
)
def test_verdict_is_by_the_spread_of_repeats(
    report: dict[str, Any], now_ms: float, verdict: str
) -> None:
    """With repeats of 4.5 to 5.5 around 5, less than a fifth is noise."""
    old = with_repeats(report, 4.5, 5.0, 5.5)
    new = {**report, "latency_ms": {**report["latency_ms"], "p99": now_ms}}
    row = find_row(old, new, "latency p99")
    assert row.verdict == verdict
    assert row.band == pytest.approx(0.2)
    assert row.ratio == pytest.approx(now_ms / 5.0)


def test_wider_spread_of_both_counts(report: dict[str, Any]) -> None:
    """One of the two may have run on a quieter machine."""
    old, new = with_repeats(report, 4.9, 5.0, 5.1), with_repeats(report, 5.5, 6.0, 6.5)
    assert find_row(old, new, "latency p99").band == pytest.approx(1 / 6)
    assert find_row(old, new, "latency p99").verdict == "slower"


def test_no_verdict_without_repeats(report: dict[str, Any]) -> None:
    """One run has no spread, nor has one repeat."""
    other = with_repeats(report, 1.0, 1.0, 1.0)
    other["repeats"] = other["repeats"][:1]
    rows = compare_reports(report, other).rows
    assert {row.verdict for row in rows} == {UNKNOWN}
    assert {row.band for row in rows} == {None}


def test_irregular_misses_are_noise(report: dict[str, Any]) -> None:
    """A median of 0 has no relative spread."""
    old = with_repeats(report, 5.0, 5.0, 5.0)
    new = {**report, "misses": 3}
    assert find_row(old, new, "misses").verdict == "more"
    assert find_row(old, new, "misses").ratio is None
    old["repeats"][0]["misses"] = 2
    assert find_row(old, new, "misses").verdict == WITHIN_NOISE


def test_figures_of_one_report_alone_are_left_out(full_report: dict[str, Any]) -> None:
    """A network of one report has no row."""
    new = deepcopy(full_report)
    del new["models"]["voice int8"]
    names = [row.name for row in compare_reports(full_report, new).rows]
    assert "model face 64 px int8 p50" in names
    assert "model voice int8 p50" not in names


def test_differences_are_named(report: dict[str, Any]) -> None:
    """Clock rates of the moment are no difference of conditions."""
    other = {
        **report,
        "source": "clip.mp4",
        "machine": {**report["machine"], "cores": 8, "cpu_freq_mhz": [1500.0]},
    }
    lines = compare_reports(report, other).differences
    assert [line.partition(":")[0] for line in lines] == ["source", "machine cores"]
    assert compare_reports(report, report).differences == ()


def test_print_lists_differences_first(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of a file do not reach the terminal."""
    print_comparison(compare_reports({**report, "source": "\x1b[31mred"}, report))
    shown = capsys.readouterr().out
    assert "�[31mred" in shown.splitlines()[0]
    assert "--repeats" in shown


def test_loads_a_written_report(full_report: dict[str, Any], tmp_path: Path) -> None:
    """With and without optional parts."""
    file = tmp_path / "old.json"
    file.write_text(json.dumps(full_report))
    assert load_report(file) == json.loads(json.dumps(full_report))
    file.write_text(json.dumps(make_report()))
    assert load_report(file)["scenario"] == "steady"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "old.json"),
        ("{", "old.json"),
        ("\x80", "old.json"),
        ("[" * 100_000, "old.json"),
        ('{"latency_ms": NaN}', "old.json"),
        ("[1, 2]", "latency_ms"),
        ("{}", "latency_ms"),
        ('{"latency_ms": {}}', "format None"),
        ('{"latency_ms": {}, "format": 3}', "format 3"),
        ('{"latency_ms": {}, "format": 2}', "latency_ms"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str, names: str) -> None:
    """The line names the file, and the field where there is one."""
    file = tmp_path / "old.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=names) as caught:
        load_report(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("latency_ms", "p99"), "fast"),
        (("latency_ms", "max"), -1.0),
        (("latency_ms", "max"), 10**400),
        (("stages_ms", "voice", "p50"), None),
        (("misses",), 1.5),
        (("repeats",), {}),
        (("machine",), 3),
    ],
)
def test_wrong_fields_are_named(
    report: dict[str, Any], tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    *above, last = path
    parent = report
    for key in above:
        parent = parent[key]
    parent[last] = value
    file = tmp_path / "old.json"
    file.write_text(json.dumps(report))
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        load_report(file)


def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file, a folder, a pipe without a writer, and a file that is too large."""
    pipe, large = tmp_path / "pipe", tmp_path / "large.json"
    os.mkfifo(pipe)
    monkeypatch.setattr(compare, "MAX_BYTES", 1024**2)
    large.write_bytes(b" " * (1024**2 + 1))
    for file in (tmp_path / "none.json", tmp_path, pipe, large):
        with pytest.raises(ConfigError, match=re.escape(str(file))):
            load_report(file)
