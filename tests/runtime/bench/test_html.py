"""The page of a report: complete, self-contained and safe to open."""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.runtime.bench.compare import compare_reports
from emotion_edge.runtime.bench.html import PLOTS, render_page, write_html
from emotion_edge.runtime.config import ConfigError

from .made_reports import make_report

pytest.importorskip("matplotlib", reason="the page needs matplotlib")
pytest.importorskip("jinja2", reason="the page needs jinja2")


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_page_shows_every_part(full_report: dict[str, Any], tmp_path: Path) -> None:
    """The page has all plots and tables, and a comparison."""
    path = tmp_path / "report.html"
    write_html(full_report, path, compare_reports(full_report, full_report))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("svg") == len(PLOTS)
    for title in ("Phases, ms", "Side by side, ms", "New against old", "Soak", "Level switches: 4"):
        assert title in page.words
    assert "missed the budget" in page.words  # the legend's entry
    assert "capture to result, ms" in text
    assert "powersave" in text


def test_page_of_a_plain_run_has_no_empty_parts(report: dict[str, Any]) -> None:
    """Optional parts are left out."""
    page = Page(render_page(report))
    assert page.tags.count("svg") == 3
    assert "missed the budget" not in page.words
    assert not {"Soak", "Phases, ms", "Compared with an earlier run"} & set(page.words)


def test_page_is_self_contained(full_report: dict[str, Any]) -> None:
    """It has no script and nothing to load, and a policy that forbids both."""
    text = render_page(full_report)
    page = Page(text)
    assert "script" not in page.tags
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action"):
            assert str(value).startswith("#")
        assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", text)


def test_references_are_unique(full_report: dict[str, Any]) -> None:
    """All SVG elements share the ids of the page."""
    text = render_page(full_report)
    ids = re.findall(r'\bid="([^"]+)"', text)
    for name in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert name in ids
    shapes: dict[str, list[str]] = {name: [] for name in ids}
    for name, rest in re.findall(r'\bid="([^"]+)"([^>]*>)', text):
        shapes[name].append(rest)
    assert all(len(set(same_id)) == 1 for same_id in shapes.values())


def test_text_is_escaped(full_report: dict[str, Any]) -> None:
    """Names of files, levels, networks and processors are untrusted."""
    bad = "<script>alert(1)</script>$\\frac{$"
    full_report.update(source=bad, level=bad)
    full_report["series"]["levels"][0] = bad
    full_report["phases"][0]["name"] = bad
    full_report["models"] = {bad: full_report["models"]["voice int8"]}
    full_report["machine"]["cpu"] = bad
    full_report["beside"]["baseline"]["program"] = bad
    text = render_page(full_report)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_long_run_makes_a_small_page() -> None:
    """A series of half an hour is drawn as ranges, not as 20,000 marks."""
    text = render_page(make_report(1800.0, 20_000, 14.0))
    assert len(text) < 1_000_000
    assert "fastest to slowest in 3 s" in text


def test_same_figures_give_the_same_page(full_report: dict[str, Any]) -> None:
    assert render_page(full_report) == render_page(full_report)


@pytest.mark.parametrize("points", [1, 2, 1201])
def test_short_series_and_gaps_are_drawn(points: int) -> None:
    """A single result, and times without results."""
    report = make_report(20.0, points)
    series = report["series"]
    series["t_s"] = np.where(
        np.array(series["t_s"]) > 10, np.array(series["t_s"]) + 9, 0.0
    ).tolist()
    assert "<svg" in render_page(report)


def test_missing_library_is_one_line(
    report: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The extra is named, before anything is written."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    path = tmp_path / "report.html"
    with pytest.raises(ConfigError, match=r"emotion-edge\[report\]"):
        write_html(report, path)
    assert not path.exists()


def test_file_that_cannot_be_written_is_one_line(report: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--html"):
        write_html(report, tmp_path / "none" / "report.html")
