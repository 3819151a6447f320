"""The report on the terminal: its tables, facts and warnings."""

from __future__ import annotations

from typing import Any

import pytest

from emotion_edge.runtime.bench.report import list_tables, list_warnings, print_report


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough for every row."""
    monkeypatch.setenv("COLUMNS", "140")


def test_shows_the_headline_without_optional_parts(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(report)
    shown = capsys.readouterr().out
    p50, p99 = (f"{report['latency_ms'][rank]:.2f}" for rank in ("p50", "p99"))
    row = next(line for line in shown.splitlines() if line.startswith("capture to result"))
    assert row.split()[3] == p50
    assert p99 in row.split()
    assert "warning" not in shown
    assert "Soak" not in shown


def test_shows_every_part(full_report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Every optional part has its table or line."""
    print_report(full_report)
    shown = capsys.readouterr().out
    for title in ("Side by side", "Phases", "Levels", "Networks alone", "Repeats", "Soak"):
        assert title in shown
    assert "Level switches: 4: " in shown
    assert "1.4, – s" in shown
    assert "54.0 °C" in shown


def test_ratios_are_baseline_over_run(full_report: dict[str, Any]) -> None:
    """They tell how many times slower the baseline is."""
    table = next(table for table in list_tables(full_report) if table.title.startswith("Side"))
    ours, theirs = full_report["latency_ms"], full_report["beside"]["baseline"]["latency_ms"]
    row = next(row for row in table.rows if row[0] == "baseline (naive_baseline)")
    cells = dict(zip(table.head, row, strict=True))
    assert float(cells["p50 x"]) == pytest.approx(theirs["p50"] / ours["p50"], abs=0.05)
    assert float(cells["p99 x"]) == pytest.approx(theirs["p99"] / ours["p99"], abs=0.05)
    assert (cells["missed, %"], cells["dropped, %"]) == ("50.00", "33.33")


def test_warns_of_what_distorts_the_measurement(full_report: dict[str, Any]) -> None:
    """Load, governor and throttling each have a line. A counter without events has none."""
    load, governor, throttling = list_warnings(full_report)
    assert "1.8" in load
    assert "powersave" in governor
    assert "soc-throttle, 3" in throttling


@pytest.mark.parametrize(("load", "warned"), [(1.0, False), (1.01, True)])
def test_load_is_relative_to_the_cores(report: dict[str, Any], load: float, warned: bool) -> None:
    """The limit is half a core for each of two."""
    assert bool(list_warnings({**report, "load_average_before": load})) is warned


def test_markup_in_names(report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_report({**report, "source": "[bold]clip[/].mp4"})
    assert "[bold]clip[/].mp4" in capsys.readouterr().out
