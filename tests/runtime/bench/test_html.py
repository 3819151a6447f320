"""The page of a run: complete, by itself, and safe to open."""

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
    """All plots and tables, with a comparison."""
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
    """No phases, nothing beside, no networks alone, no soak, no comparison."""
    page = Page(render_page(report))
    assert page.tags.count("svg") == 3
    assert "missed the budget" not in page.words
    assert not {"Soak", "Phases, ms", "Compared with an earlier run"} & set(page.words)


def test_page_needs_nothing_else(full_report: dict[str, Any]) -> None:
    """No script, nothing to load, and a policy that would forbid it."""
    text = render_page(full_report)
    page = Page(text)
    assert "script" not in page.tags
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action"):
            assert str(value).startswith("#")
        assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", text)


def test_what_is_referred_to_is_there_once(full_report: dict[str, Any]) -> None:
    """Several SVG elements share the page's names."""
    text = render_page(full_report)
    ids = re.findall(r'\bid="([^"]+)"', text)
    for name in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert name in ids
    shapes: dict[str, list[str]] = {name: [] for name in ids}
    for name, rest in re.findall(r'\bid="([^"]+)"([^>]*>)', text):
        shapes[name].append(rest)
    assert all(len(set(found)) == 1 for found in shapes.values())


def test_text_is_escaped(full_report: dict[str, Any]) -> None:
    """Names of files, levels, networks and processors come from outside."""
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
    """Half an hour: the series is drawn as spans, not as 20,000 marks."""
    text = render_page(make_report(1800.0, 20_000, 14.0))
    assert len(text) < 1_000_000
    assert "fastest to slowest in 3 s" in text


def test_same_figures_give_the_same_page(full_report: dict[str, Any]) -> None:
    """So pages can be compared."""
    assert render_page(full_report) == render_page(full_report)


@pytest.mark.parametrize("points", [1, 2, 1201])
def test_short_series_and_silence_are_drawn(points: int) -> None:
    """One result, and moments without any."""
    report = make_report(20.0, points)
    series = report["series"]
    series["t_s"] = np.where(
        np.array(series["t_s"]) > 10, np.array(series["t_s"]) + 9, 0.0
    ).tolist()
    assert "<svg" in render_page(report)


def test_missing_library_is_one_line(
    report: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says what to install, before anything is written."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    path = tmp_path / "report.html"
    with pytest.raises(ConfigError, match=r"pip install 'emotion-edge\[report\]'"):
        write_html(report, path)
    assert not path.exists()


def test_file_that_cannot_be_written_is_one_line(report: dict[str, Any], tmp_path: Path) -> None:
    """A folder that is not there."""
    with pytest.raises(ConfigError, match=r"--html .*No such file"):
        write_html(report, tmp_path / "none" / "report.html")
