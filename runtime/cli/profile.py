"""`emotion-edge profile`: measure the cost of each quality level on this machine, and store it.

In: a configuration. Out: a table, a stored profile for later runs, and a JSON file on request. A
run without a stored profile measures by itself, in less time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...engines.bundles import Level, choose_bundle
from ...engines.tensorrt import find_cache_folder
from ..clock import MonotonicClock
from ..config import Config, ConfigError
from ..quality import LevelCost, ProfileSetup, describe_setup, open_levels, remeasure_levels
from ..service import drop_privileges_to
from ..session import open_preprocessor_for, report_build_progress

CAMERA_FPS = 30.0
"""Rate of a level that processes every frame."""


def run_profile(config: Config, json_file: Path | None) -> int:
    """Measure every level of the bundle again, print a table, and write `json_file`.

    Raises BundleError, ConfigError, EngineError and PreprocessorError.
    """
    with ExitStack() as stack:
        # Opened as root, who may write where the owner of the cache may not.
        report_file = stack.enter_context(open_report(json_file)) if json_file is not None else None
        drop_privileges_to(find_cache_folder().parent)
        bundle = choose_bundle(config.bundle, config.public_key).bundle
        levels = open_levels(stack, config, bundle, report_build_progress)
        preprocessor = stack.enter_context(open_preprocessor_for(levels, bundle.manifest))
        setup = ProfileSetup(
            bundle,
            levels,
            preprocessor,
            config.engines.num_threads,
            MonotonicClock(),
            config.engines.dla_core,
        )
        costs, file = remeasure_levels(setup)
        rows = list_figures([level.level for level in levels], costs, config.budget_ms)
        print_table(rows, config.budget_ms, file)
        if report_file is not None:
            measured_of = describe_setup(setup)
            report = {"budget_ms": config.budget_ms, "levels": rows, "measured_of": measured_of}
            try:
                with report_file:
                    report_file.write(json.dumps(report, indent=2) + "\n")
            except OSError as error:
                raise ConfigError(f"--json {json_file}: {error.strerror}") from error
    return 0


def open_report(file: Path) -> TextIO:
    """Open the JSON file. Raises ConfigError."""
    try:
        return file.open("w")
    except OSError as error:
        raise ConfigError(f"--json {file}: {error.strerror}") from error


def list_figures(
    levels: Sequence[Level], costs: Sequence[LevelCost], budget_ms: float
) -> list[dict[str, Any]]:
    """Return a row for each level, as in the JSON file: its costs in ms, and further figures.

    `full_ms`: a frame with one face on which the voice is due. `full_faces_ms`: with as many faces
    as the level allows. `load_ms_per_s`: one second at the
    level's rates. `no_gain`: the level is no cheaper than the one above it, neither for a frame nor
    for a second.
    """
    rows: list[dict[str, Any]] = []
    for level, cost in zip(levels, costs, strict=True):
        fps = level.camera_fps or CAMERA_FPS
        voice_hz = min(fps, 1000 / level.voice_hop_ms)
        load = fps * cost.expected_ms(faces=1, voice=False) + voice_hz * cost.voice_ms
        full = cost.full_ms()
        above = rows[-1] if rows else None
        rows.append(
            {
                **asdict(cost),
                "full_ms": round(full, 4),
                "full_faces_ms": round(cost.full_ms(cost.max_faces), 4),
                "load_ms_per_s": round(load, 2),
                "fits": full <= budget_ms,
                "no_gain": above is not None
                and round(full, 4) >= above["full_ms"]
                and round(load, 2) >= above["load_ms_per_s"],
            }
        )
    return rows


def print_table(rows: Sequence[dict[str, Any]], budget_ms: float, file: Path | None) -> None:
    table = Table(title="cost of a frame without other load, ms")
    table.add_column("level")
    for heading in (
        "base",
        "face",
        "voice",
        "more",
        "full",
        "faces",
        "ms a second",
        f"fits {budget_ms:g} ms",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        names = ("base_ms", "face_ms", "voice_ms", "more_face_ms", "full_ms", "full_faces_ms")
        cells = [f"{row[name]:.2f}" for name in names]
        load = f"{row['load_ms_per_s']:.0f} ({row['load_ms_per_s'] / 1000:.1%})"
        table.add_row(Text(row["name"]), *cells, load, "yes" if row["fits"] else "no")
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    console.print(table, soft_wrap=False)
    console.print(
        "more: each further face; full: with one face, the voice due; faces: with as many as the"
        " level allows; ms a second: of one core, at the level's rates"
    )
    for above, row in pairwise(rows):
        if row["no_gain"]:
            console.print(
                f"level {row['name']} costs no less than {above['name']} on this machine",
                style="yellow",
            )
    if not any(row["fits"] for row in rows):
        console.print(f"no level holds the budget of {budget_ms:g} ms", style="red")
    console.print(f"stored in {file}" if file is not None else "not stored")
