"""The report as one self-contained HTML page: no script, no network.

In: the report, as in the JSON file, and a comparison. Out: the page. matplotlib and jinja2 are
imported when a page is requested: a device in use needs neither.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import ConfigError
from .compare import HEAD, Comparison, list_notes, show_row
from .report import (
    Table,
    list_facts,
    list_tables,
    list_warnings,
    tabulate_switches,
    title_report,
)

LIBRARIES = ("matplotlib", "jinja2")
TEMPLATE = Path(__file__).with_name("report.html")
STYLE_FILE = Path(__file__).parent.with_name("report.css")
PLOTS = {
    "timeline": "Latency and level over time. Every second phase is grey.",
    "percentiles": "Latency that a share of all results did not exceed. From 90 to 99 % there is"
    " as much room as from 99 to 99.9 %: late results are few, and people notice them.",
    "stages": "Time of each stage in this run. Stages are slow at different frames, so their p99"
    " add up to more than the p99 of the whole.",
    "models": "Networks run alone, back to back, beside their stage at the best level: the rest is"
    " caches and other work. A network that runs at fewer than half of the frames has a stage with"
    " a median of 0.",
    "soak": "Memory, threads and file descriptors over the run.",
}
"""The plots in their order, with their captions."""


def require_libraries() -> None:
    """Raises ConfigError where a library is missing. Called before a long run."""
    if any(importlib.util.find_spec(name) is None for name in LIBRARIES):
        raise ConfigError(
            f"--html needs {' and '.join(LIBRARIES)}: pip install 'emotion-edge[report]'"
        )


def write_html(report: Mapping[str, Any], path: Path, comparison: Comparison | None = None) -> None:
    """Write the page of `report` to a file. Raises ConfigError."""
    page = render_page(report, comparison)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path}: {error.strerror}") from error


def render_page(report: Mapping[str, Any], comparison: Comparison | None = None) -> str:
    """Return the page. All text is escaped. Raises ConfigError without the libraries."""
    require_libraries()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from .plots import draw_all

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    plots = draw_all(report)
    switches = tabulate_switches(report)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        style=Markup(STYLE_FILE.read_text(encoding="utf-8")),
        title=title_report(report),
        warnings=list_warnings(report),
        cards=_list_cards(report),
        # matplotlib has escaped the text in them
        plots=[(Markup(plots[name]), text) for name, text in PLOTS.items() if name in plots],
        tables=[*list_tables(report), *([switches] if switches else [])],
        comparison=_tabulate_comparison(comparison),
        differences=comparison.differences if comparison else (),
        notes=list_notes(comparison) if comparison else (),
        facts=list_facts(report),
        machine=_list_known(report["machine"]),
        versions=_list_known(report["versions"]),
    )


def _list_cards(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and caption of each figure at the top."""
    latency, misses, frames = report["latency_ms"], report["misses"], report["frames"]
    cards = [
        (f"Latency {rank}", f"{latency[rank]:.1f} ms", "capture to result")
        for rank in ("p50", "p99", "max")
    ]
    share = f"{100 * misses / max(1, frames):.2f} %"
    cards.append(("Missed the budget", share, f"{misses} of {frames}; {report['budget_ms']:g} ms"))
    switches = len(report.get("level_switches") or ())
    cards.append(("Level", str(report["level"]), f"{switches} switches"))
    baseline = (report.get("beside") or {}).get("baseline")
    if baseline and latency["p50"] and latency["p99"]:
        ratios = [baseline["latency_ms"][rank] / latency[rank] for rank in ("p50", "p99")]
        cards.append(("Baseline", f"{ratios[0]:.1f} x", f"this p50; {ratios[1]:.1f} x this p99"))
    return cards


def _tabulate_comparison(comparison: Comparison | None) -> Table | None:
    if comparison is None:
        return None
    return Table("New against old", HEAD, [show_row(row) for row in comparison.rows])


def _list_known(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = {name: value for name, value in facts.items() if value not in (None, [])}
    return [(name.replace("_", " "), _show(value)) for name, value in known.items()]


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
