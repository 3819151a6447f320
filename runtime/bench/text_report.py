"""A report of emotion-bench on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from .report import list_facts, list_warnings, title_report
from .tables import Table, list_tables, tabulate_switches

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
