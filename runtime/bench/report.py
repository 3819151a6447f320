"""What a report of emotion-bench says beside its tables: lines of text for terminal and page.

In: the report, as in the JSON file. Out: lines that are ready to be shown.

A report of emotion-bench on the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from .tables import NONE, Table, list_tables, tabulate_switches

Report = Mapping[str, Any]

IDLE_LOAD_PER_CORE = 0.5
CAPTURE = ("copies_per_frame", "clock_domain", "zero_copy")


def list_warnings(report: Report) -> list[str]:
    """What makes the figures less than they seem, one line each."""
    return list(_find_warnings(report))


def list_facts(report: Report) -> list[tuple[str, str]]:
    """(name, what was so) of the whole run."""
    return list(_find_facts(report))


def title_report(report: Report) -> str:
    seconds = f", {report['seconds']:g} s" if report.get("seconds") else ""
    rate = f" at {report['fps']:g} fps" if report.get("fps") else ""
    return f"{report.get('scenario', 'steady')}: {report['source']}{rate}{seconds}"


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
    passed = report.get("passed_over") or 0
    of_processed = 100 * report["misses"] / max(1, report["frames"] - passed)
    processed = f", {of_processed:.2f} % of those looked at" if passed else ""
    causes = _join_counts(report.get("misses_by_cause") or {})
    yield (
        "Budget",
        f"{report['budget_ms']:g} ms; {report['misses']} of {report['frames']} pictures missed it"
        f" ({share:.2f} %)" + processed + (f": {causes}" if causes else ""),
    )
    yield (
        "Pictures",
        f"{report['frames']}; {report['dropped']} dropped"
        + (f", {passed} passed over as the level wants" if passed else "")
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
        times = ", ".join(NONE if one is None else f"{one:.1f}" for one in back)
        yield "Back at the best level", f"{times} s after the load's end"
    yield "Level", f"{report['level']}, {len(report.get('level_switches') or ())} switches"
    counting = report.get("accounting_us")
    if counting:
        yield (
            "Controller and accounting",
            f"{counting['p50']:.0f} µs a picture, p99 {counting['p99']:.0f} µs",
        )
    held = f", {report['held_mb']:.0f} MB of them the source" if report.get("held_mb") else ""
    yield "Memory", f"{report['rss_mb']:.0f} MB resident{held}"
    yield "First result", f"{report['first_result_s']:.1f} s after the start"
    engines = ", ".join(f"{name} on {engine}" for name, engine in report["engines"].items())
    yield "Engines", f"{engines}; input prepared on {report['preprocessor']}"
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
    found = [(sensors.get(when) or {}).get("temperature_c") for when in ("before", "after")]
    before, after = (NONE if one is None else f"{one:.1f} °C" for one in found)
    return "" if found == [None, None] else f"{before} before, {after} after"


def _join_counts(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in ranked if count)


MAX_SWITCHES = 12
"""More are in the files."""


def print_report(report: Mapping[str, Any]) -> None:
    """`report` as in the JSON file."""
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
    shown = [f"{at} {old} -> {new}" for at, old, new in switches.rows[:MAX_SWITCHES]]
    if len(switches.rows) > MAX_SWITCHES:
        shown.append("…")
    console.print()
    console.print(Text(f"{switches.title}: {', '.join(shown)}"))
