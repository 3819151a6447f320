"""The tables of a report of emotion-bench, for terminal and page.

In: the report, as in the JSON file. Out: cells that are ready to be shown; times are ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]
Cells = tuple[str, ...]

RANKS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
MAX_SWITCHES = 200
NONE = "–"
MISSES = ("pictures", "missed", "%")


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is text, the others are numbers."""

    title: str
    head: Cells
    rows: Sequence[Cells]


def list_tables(report: Report) -> list[Table]:
    """All that the report has figures for."""
    tables = (
        tabulate_latency(report),
        tabulate_beside(report),
        tabulate_phases(report),
        tabulate_levels(report),
        tabulate_models(report),
        tabulate_repeats(report),
        tabulate_soak(report),
    )
    return [table for table in tables if table is not None]


def tabulate_latency(report: Report) -> Table:
    rows = [("capture to result", report["latency_ms"]), ("networks", report["networks_ms"])]
    rows += [(f"stage {name}", figures) for name, figures in report["stages_ms"].items()]
    ranks = [rank for rank in RANKS if any(rank in figures for _, figures in rows)]
    return Table(
        "Latency, ms",
        ("", *ranks),
        [(name, *(_show_ms(figures.get(rank)) for rank in ranks)) for name, figures in rows],
    )


def tabulate_beside(report: Report) -> Table | None:
    """Other runs on the same source; "x" is how many times this run's figure theirs is."""
    beside = report.get("beside") or {}
    if not beside:
        return None
    ours = report["latency_ms"]
    rows = []
    for name, run in {"this run": report, **beside}.items():
        latency = run["latency_ms"]
        ratios = [_show_ratio(latency[rank], ours[rank]) for rank in ("p50", "p99")]
        shown = [_show_ms(latency[rank]) for rank in ("p50", "p99", "max")]
        lost = [f"{100 * run[key] / max(1, run['frames']):.2f}" for key in ("misses", "dropped")]
        rows.append((name_run(name, run), *shown, *ratios, str(run["frames"]), *lost))
    head = ("", "p50", "p99", "max", "p50 x", "p99 x", "pictures", "missed, %", "dropped, %")
    return Table("Side by side, ms", head, rows)


def tabulate_phases(report: Report) -> Table | None:
    rows = [
        (
            phase["name"],
            f"{phase['from_s']:.1f}",
            f"{phase['to_s']:.1f}",
            *(_show_ms(phase["latency_ms"].get(rank)) for rank in ("p50", "p99", "max")),
            *_show_misses(phase),
        )
        for phase in report.get("phases") or ()
    ]
    head = ("", "from, s", "to, s", "p50", "p99", "max", *MISSES)
    return Table("Phases, ms", head, rows) if len(rows) > 1 else None


def tabulate_levels(report: Report) -> Table | None:
    times = report.get("level_time_s") or {}
    total = sum(times.values()) or 1.0
    rows = [
        (name, f"{time_s:.1f}", f"{100 * time_s / total:.1f}") for name, time_s in times.items()
    ]
    return Table("Levels", ("", "s", "% of the time"), rows) if rows else None


def tabulate_switches(report: Report) -> Table | None:
    switches = list(report.get("level_switches") or ())
    rows = [(f"{one['t_s']:.1f} s", one["from"], one["to"]) for one in switches[:MAX_SWITCHES]]
    title = f"Level switches: {len(switches)}"
    if len(switches) > MAX_SWITCHES:
        title += f", the first {MAX_SWITCHES} of them"
    return Table(title, ("at", "from", "to"), rows) if rows else None


def tabulate_models(report: Report) -> Table | None:
    """Each network by itself, beside the stage of the run that it is in."""
    rows = []
    models = report.get("models") or {}
    for (name, alone), stage in zip(models.items(), find_stages(report), strict=True):
        shown = [_show_ms(alone.get(rank)) for rank in ("p50", "p99", "mean", "min", "max")]
        within = [_show_ms(stage.get(rank)) for rank in ("p50", "p99")]
        rows.append((name, *shown, str(alone.get("runs", NONE)), *within))
    head = ("", "p50", "p99", "mean", "min", "max", "runs", "stage p50", "stage p99")
    return Table("Networks alone, and their stage in the run, ms", head, rows) if rows else None


def tabulate_repeats(report: Report) -> Table | None:
    repeats = report.get("repeats") or ()
    if len(repeats) < 2:
        return None
    rows = []
    for number, run in enumerate(repeats, 1):
        shown = [_show_ms(run["latency_ms"][rank]) for rank in ("p50", "p99", "max")]
        rows.append((str(number), *shown, *_show_misses(run)))
    head = ("", "p50", "p99", "max", *MISSES)
    return Table("Repeats, ms", head, rows)


def tabulate_soak(report: Report) -> Table | None:
    soak = report.get("soak")
    if not soak:
        return None
    rows = [
        ("resident memory", _grow(soak["rss_mb"], " MB"), f"{soak['rss_growth_percent']:+.2f} %"),
        ("threads", _grow(soak["threads"]), f"{soak['threads_growth']:+d}"),
        ("file descriptors", _grow(soak["fds"]), f"{soak['fds_growth']:+d}"),
        ("lost estimates", str(soak["lost_estimates"]), ""),
    ]
    return Table("Soak", ("", "first to last", "growth"), rows)


def name_run(name: str, run: Report) -> str:
    """A run beside this one, such as "pinned to high", "baseline (naive_baseline)"."""
    if name == "pinned" and run.get("level"):
        return f"pinned to {run['level']}"
    return f"{name} ({run['program']})" if run.get("program") else name


def find_stages(report: Report) -> list[Mapping[str, float]]:
    """For each of the report's models the stage of the run that it is in; nothing for those of
    lower levels, which come later: the model "face 64 px fp32" before "face 56 px fp32"."""
    stages = dict(report["stages_ms"])
    return [stages.pop(name.partition(" ")[0], {}) for name in report.get("models") or {}]


def _show_misses(run: Report) -> Cells:
    share = 100 * run["misses"] / max(1, run["frames"])
    return str(run["frames"]), str(run["misses"]), f"{share:.2f}"


def _show_ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _show_ratio(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f}" if ours else NONE


def _grow(values: Sequence[float], unit: str = "") -> str:
    return f"{values[0]:g} to {values[-1]:g}{unit}" if values else NONE
