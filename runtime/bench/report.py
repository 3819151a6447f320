"""Contents of a report for terminal and page: title, warnings, tables and facts.

In: the report, as in the JSON file. Out: cells and lines of text, times in ms. It also prints them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

Report = Mapping[str, Any]
Cells = tuple[str, ...]

RANKS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
MAX_SWITCHES = 200
"""More are in the JSON file."""
MAX_SWITCHES_PRINTED = 12
NONE = "–"
MISSES = ("frames", "missed", "%")
IDLE_LOAD_PER_CORE = 0.5
CAPTURE = ("copies_per_frame", "clock_domain", "zero_copy")


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column is text and whose others are numbers."""

    title: str
    head: Cells
    rows: Sequence[Cells]


def print_report(report: Mapping[str, Any]) -> None:
    """Print a report, as in the JSON file."""
    console = Console()
    console.print(Text(title_report(report), "bold"))
    for line in list_warnings(report):
        console.print(Text(f"warning: {line}", "yellow"))
    for table in list_tables(report):
        _print_table(console, table)
    switches = tabulate_switches(report)
    if switches is not None:
        _print_switches(console, switches)
    console.print()
    for name, value in list_facts(report):
        console.print(Text.assemble((f"{name}: ", "bold"), value))


def list_warnings(report: Report) -> list[str]:
    """Return conditions that distort the figures, one line each."""
    return list(_find_warnings(report))


def list_facts(report: Report) -> list[tuple[str, str]]:
    """Return name and value of each fact about the whole run."""
    return list(_find_facts(report))


def title_report(report: Report) -> str:
    seconds = f", {report['seconds']:g} s" if report.get("seconds") else ""
    rate = f" at {report['fps']:g} fps" if report.get("fps") else ""
    return f"{report.get('scenario', 'steady')}: {report['source']}{rate}{seconds}"


def list_tables(report: Report) -> list[Table]:
    """Return all tables that the report has figures for."""
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
    """Tabulate other runs on the same source. "x" is their figure over this run's."""
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
    head = ("", "p50", "p99", "max", "p50 x", "p99 x", "frames", "missed, %", "dropped, %")
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
    shown = switches[:MAX_SWITCHES]
    rows = [(f"{switch['t_s']:.1f} s", switch["from"], switch["to"]) for switch in shown]
    title = f"Level switches: {len(switches)}"
    if len(switches) > MAX_SWITCHES:
        title += f", the first {MAX_SWITCHES} of them"
    return Table(title, ("at", "from", "to"), rows) if rows else None


def tabulate_models(report: Report) -> Table | None:
    """Tabulate each network alone, beside its stage of the run."""
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
        (
            "resident memory",
            _show_growth(soak["rss_mb"], " MB"),
            f"{soak['rss_growth_percent']:+.2f} %",
        ),
        ("threads", _show_growth(soak["threads"]), f"{soak['threads_growth']:+d}"),
        ("file descriptors", _show_growth(soak["fds"]), f"{soak['fds_growth']:+d}"),
        ("lost estimates", str(soak["lost_estimates"]), ""),
    ]
    return Table("Soak", ("", "first to last", "growth"), rows)


def name_run(name: str, run: Report) -> str:
    """Name a run beside this one, such as "pinned to high", "baseline (naive_baseline)"."""
    if name == "pinned" and run.get("level"):
        return f"pinned to {run['level']}"
    return f"{name} ({run['program']})" if run.get("program") else name


def find_stages(report: Report) -> list[Mapping[str, float]]:
    """Return the stage of the run for each of the report's models.

    It is empty for those of lower levels, which come later: the model "face 64 px fp32" is before
    "face 56 px fp32".
    """
    stages = dict(report["stages_ms"])
    return [stages.pop(name.partition(" ")[0], {}) for name in report.get("models") or {}]


def _find_warnings(report: Report) -> Iterator[str]:
    machine, load = report["machine"], report.get("load_average_before")
    cores = machine.get("cores_usable") or machine.get("cores") or 1
    if load is not None and load > IDLE_LOAD_PER_CORE * cores:
        yield f"the machine was not idle: load average {load:.1f} on {cores} cores before the run"
    governor = machine.get("governor")
    if governor not in (None, "performance"):
        yield f"the governor is {governor}, not performance: clocks may have been low"
    sensors = report.get("sensors") or {}
    for cause, count in (sensors.get("throttle_events") or {}).items():
        if count:
            yield f"the chip was throttled during the run: {cause}, {count} times"


def _find_facts(report: Report) -> Iterator[tuple[str, str]]:
    share = 100 * report["misses"] / max(1, report["frames"])
    skipped = report.get("passed_over") or 0
    of_processed = 100 * report["misses"] / max(1, report["frames"] - skipped)
    processed = f", {of_processed:.2f} % of those processed" if skipped else ""
    causes = _join_counts(report.get("misses_by_cause") or {})
    yield (
        "Budget",
        f"{report['budget_ms']:g} ms; {report['misses']} of {report['frames']} frames missed it"
        f" ({share:.2f} %)" + processed + (f": {causes}" if causes else ""),
    )
    yield (
        "Frames",
        f"{report['frames']}; {report['dropped']} dropped"
        + (f", {skipped} skipped by the level's rate" if skipped else "")
        + f"; {report['estimates']} estimates, {report['with_face']} with a face,"
        f" {report['with_voice']} with a voice",
    )
    ratio = report.get("p99_over_p50")
    yield (
        "Ratios",
        f"p50 is {report['p50_over_networks']:.2f} x the networks"
        + (f", p99 is {ratio:.2f} x p50" if ratio else ""),
    )
    back = report.get("back_at_top_s")
    if back:
        times = ", ".join(NONE if time_s is None else f"{time_s:.1f}" for time_s in back)
        yield "Back at the best level", f"{times} s after the end of the load"
    yield "Level", f"{report['level']}, {len(report.get('level_switches') or ())} switches"
    accounting = report.get("accounting_us")
    if accounting:
        yield (
            "Controller and accounting",
            f"{accounting['p50']:.0f} µs a frame, p99 {accounting['p99']:.0f} µs",
        )
    source = f", {report['held_mb']:.0f} MB of them the source" if report.get("held_mb") else ""
    yield "Memory", f"{report['rss_mb']:.0f} MB resident{source}"
    yield "First result", f"{report['first_result_s']:.1f} s after the start"
    engines = ", ".join(f"{name} on {engine}" for name, engine in report["engines"].items())
    yield "Engines", f"{engines}; preprocessing on {report['preprocessor']}"
    copies, clock, zero_copy = (report["capture"][key] for key in CAPTURE)
    yield "Capture", f"{copies} copies a frame, clock {clock}, zero-copy {zero_copy}"
    switches = report.get("context_switches")
    if switches:
        yield (
            "Context switches",
            f"{switches['voluntary']} to wait, {switches['involuntary']} forced",
        )
    temperatures = _show_temperatures(report.get("sensors") or {})
    if temperatures:
        yield "Temperature", temperatures
    yield "Bundle", f"sha256 {report['bundle']}"


def _show_temperatures(sensors: Report) -> str:
    readings = [(sensors.get(when) or {}).get("temperature_c") for when in ("before", "after")]
    before, after = (NONE if t_c is None else f"{t_c:.1f} °C" for t_c in readings)
    return "" if readings == [None, None] else f"{before} before, {after} after"


def _join_counts(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in ranked if count)


def _show_misses(run: Report) -> Cells:
    share = 100 * run["misses"] / max(1, run["frames"])
    return str(run["frames"]), str(run["misses"]), f"{share:.2f}"


def _show_ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _show_ratio(theirs: float, ours: float) -> str:
    return f"{theirs / ours:.1f}" if ours else NONE


def _show_growth(values: Sequence[float], unit: str = "") -> str:
    return f"{values[0]:g} to {values[-1]:g}{unit}" if values else NONE


def _print_table(console: Console, content: Table) -> None:
    table = rich.table.Table(
        title=Text(content.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for place, name in enumerate(content.head):
        table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    for place, row in enumerate(content.rows):
        style = "bold" if place == 0 and content.head[0] == "" else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    console.print()
    console.print(table)


def _print_switches(console: Console, switches: Table) -> None:
    shown = [f"{at} {old} -> {new}" for at, old, new in switches.rows[:MAX_SWITCHES_PRINTED]]
    if len(switches.rows) > MAX_SWITCHES_PRINTED:
        shown.append("…")
    console.print()
    console.print(Text(f"{switches.title}: {', '.join(shown)}"))
