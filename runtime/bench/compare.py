"""Comparison of two reports, figure by figure: which differences are more than noise.

In: reports as in the JSON file. Out: the differences of their conditions, and for each figure its
ratio new / old beside the spread of repeated runs. JSON files from outside are read up to a size
limit, and their fields are validated.
"""

from __future__ import annotations

import math
import stat
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import ConfigError

FORMAT = 2
WITHIN_NOISE = "within noise"
UNKNOWN = "unknown"
SAME_RUN = ("source", "scenario", "level", "fps", "budget_ms", "engines", "preprocessor", "bundle")
HEAD = ("figure", "old", "new", "ratio", "noise", "verdict")
MAX_SHOWN = 60
"""Characters of a value in a warning."""
MAX_BYTES = 64 * 1024 * 1024

Report = Mapping[str, Any]
Figure = Callable[[Report], float | None]
_Number = Annotated[float, Meta(ge=0.0)]
_Count = Annotated[int, Meta(ge=0)]


class _Latency(msgspec.Struct):
    p50: _Number
    p99: _Number
    max: _Number


class _Percentiles(msgspec.Struct):
    p50: _Number
    p99: _Number


class _Repeat(msgspec.Struct):
    latency_ms: _Latency
    misses: _Count
    frames: _Count


class _Report(msgspec.Struct):
    """The fields of a report that a comparison reads."""

    latency_ms: _Latency
    networks_ms: _Percentiles
    stages_ms: dict[str, _Percentiles]
    misses: _Count
    frames: _Count
    rss_mb: _Number
    first_result_s: _Number
    machine: dict[str, Any]
    versions: dict[str, str]
    repeats: list[_Repeat] = []
    models: dict[str, _Percentiles] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both reports."""

    name: str
    unit: str
    old: float
    new: float
    ratio: float | None
    """new / old; None when the old one is 0."""
    band: float | None
    """Spread of repeats, (max - min) / median, of the report where it is larger. It is infinite
    when the median is 0 and a repeat is not, None when neither report has two repeats."""
    verdict: str
    """"faster" or "slower" ("less" or "more" for a figure that is no time), `WITHIN_NOISE`, or
    `UNKNOWN` without a band."""


@dataclass(frozen=True, slots=True)
class Comparison:
    differences: tuple[str, ...]
    """Differences of the conditions, one line each. Empty when the two can be compared."""
    rows: tuple[Row, ...]


def load_report(file: Path) -> dict[str, Any]:
    """Load a report for `compare_reports`. Raises ConfigError, one line that names the file and
    the field."""
    report = read_json(file)
    if not isinstance(report, dict) or "latency_ms" not in report:
        raise ConfigError(f"{file}: no report of emotion-bench: no field latency_ms")
    if report.get("format") != FORMAT:
        other = show_value(report.get("format"))
        raise ConfigError(f"{file}: format {other}; only {FORMAT} can be compared")
    check_shape(file, report, _Report)
    return report


def read_json(file: Path) -> Any:
    """Decode a JSON file. Raises ConfigError, one line that names the file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait
            raise ConfigError(f"{file}: not a file")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: larger than the limit of {MAX_BYTES // 1024**2} MiB")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error


def check_shape(file: Path, data: Any, shape: type[msgspec.Struct]) -> None:
    """Validate decoded JSON against `shape`. Further fields are ignored.

    Raises ConfigError, one line that names the file and the wrong field.
    """
    try:
        msgspec.convert(data, shape)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"{file}: {error}") from error


def compare_reports(old: Report, new: Report) -> Comparison:
    """Compare two reports, each from `load_report` or of this run."""
    return Comparison(tuple(_list_differences(old, new)), tuple(_list_rows(old, new)))


def print_comparison(comparison: Comparison) -> None:
    console = Console()
    for line in comparison.differences:
        console.print(Text(f"not the same: {line}", "yellow"))
    table = Table(
        title=Text("New against old", "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for heading in HEAD:
        table.add_column(heading, justify="left" if heading in ("figure", "verdict") else "right")
    styles = {"faster": "green", "less": "green", "slower": "red", "more": "red"}
    for row in comparison.rows:
        table.add_row(*(Text(cell) for cell in show_row(row)), style=styles.get(row.verdict, ""))
    console.print(table)
    for line in list_notes(comparison):
        console.print(Text(line))


def list_notes(comparison: Comparison) -> list[str]:
    """Return the notes below the table."""
    if any(row.verdict == UNKNOWN for row in comparison.rows):
        return ["Noise is unknown for figures without repeated runs: use --repeats."]
    return []


def show_row(row: Row) -> tuple[str, str, str, str, str, str]:
    """Return the cells below `HEAD`."""
    return (
        f"{row.name}, {row.unit}",
        f"{row.old:.2f}",
        f"{row.new:.2f}",
        "–" if row.ratio is None else f"{row.ratio:.3f}",
        "–" if row.band is None or math.isinf(row.band) else f"± {100 * row.band:.1f} %",
        row.verdict,
    )


def show_value(value: Any) -> str:
    """Shorten a value of a report to a few printable characters."""
    text = "".join(char if char.isprintable() else "�" for char in str(value))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _list_differences(old: Report, new: Report) -> Iterator[str]:
    groups = [("", {k: old.get(k) for k in SAME_RUN}, {k: new.get(k) for k in SAME_RUN})]
    groups += [(f"{name} ", old[name], new[name]) for name in ("machine", "versions")]
    for group, before, after in groups:
        for key in [*before, *(key for key in after if key not in before)]:
            # Clock rates of the moment differ between any two runs.
            if key != "cpu_freq_mhz" and before.get(key) != after.get(key):
                yield (
                    f"{group}{show_value(key)}: {show_value(before.get(key))} then,"
                    f" {show_value(after.get(key))} now"
                )


def _list_rows(old: Report, new: Report) -> Iterator[Row]:
    for name, unit, figure in _name_figures(old):
        before, after = figure(old), figure(new)
        if before is not None and after is not None:
            bands = [band for report in (old, new) if (band := _spread(report, figure)) is not None]
            yield _compare(name, unit, before, after, max(bands, default=None))


def _name_figures(report: Report) -> Iterator[tuple[str, str, Figure]]:
    """Yield name, unit and accessor of each figure, for a report or one of its repeats."""
    for rank in ("p50", "p99", "max"):
        yield f"latency {rank}", "ms", partial(_find_value, "latency_ms", rank)
    for rank in ("p50", "p99"):
        yield f"networks {rank}", "ms", partial(_find_value, "networks_ms", rank)
    for group, what in (("stages_ms", "stage"), ("models", "model")):
        for name in report.get(group, {}):
            for rank in ("p50", "p99"):
                shown = f"{what} {show_value(name)} {rank}"
                yield shown, "ms", partial(_find_value, group, name, rank)
    yield "misses", "% of frames", _share_missed
    yield "memory", "MB resident", partial(_find_value, "rss_mb")
    yield "first result", "s", partial(_find_value, "first_result_s")


def _find_value(*path_and_report: Any) -> float | None:
    """Follow the keys into the report, the last argument."""
    *path, value = path_and_report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _share_missed(report: Report) -> float:
    return 100.0 * report["misses"] / max(1, report["frames"])


def _compare(name: str, unit: str, before: float, after: float, band: float | None) -> Row:
    better, worse = ("faster", "slower") if unit in ("ms", "s") else ("less", "more")
    verdict = better if after < before else worse
    if band is None:
        verdict = UNKNOWN
    elif after == before or math.isinf(band) or abs(after - before) <= band * before:
        verdict = WITHIN_NOISE
    return Row(name, unit, before, after, after / before if before else None, band, verdict)


def _spread(report: Report, figure: Figure) -> float | None:
    values = [value for value in map(figure, report.get("repeats", ())) if value is not None]
    if len(values) < 2:
        return None
    apart, median = max(values) - min(values), statistics.median(values)
    if not median:
        return math.inf if apart else 0.0
    return apart / median
