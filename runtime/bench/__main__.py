"""The command line `emotion-bench`: measure the latency from capture to result.

Frames arrive open-loop at a camera's rate. The schedule never waits for the program, so a late
result also counts against the next one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..capture import is_camera
from ..command_line import add_common_arguments, build_config, positive, run_guarded
from ..config import Config, ConfigError
from ..telemetry import write_trace
from .compare import compare_reports, load_report, print_comparison
from .html import require_libraries, write_html
from .load import PER_CORE, list_cores
from .report import print_report
from .scenarios import SCENARIOS, Scenario
from .session import Session, run_session

DEFAULT_FPS = 30.0
DEFAULT_QUOTA = 0.3
EXIT_OVER_BUDGET = 1


def bench(args: argparse.Namespace) -> int:
    """Run the scenario, print and write the report. Return 1 when --assert-budget fails."""
    config = build_config(args, ["source.loop=true"], default_source="demo")
    scenario = check_options(args, config)
    old = load_report(args.compare) if args.compare is not None else None
    of_camera = is_camera(config.source.name)
    session = Session(
        config,
        scenario,
        seconds=args.seconds or scenario.default_s,
        fps=args.fps or (config.source.camera_fps if of_camera else DEFAULT_FPS),
        repeats=args.repeats,
        num_processes=args.hogs or 0,
        quota_cores=args.quota or DEFAULT_QUOTA,
        baseline=args.baseline,
    )
    report, trace = run_session(session)
    print_report(report)
    comparison = compare_reports(old, report) if old is not None else None
    if comparison is not None:
        print_comparison(comparison)
    if args.json is not None:
        write_json(report, args.json)
    if args.html is not None:
        write_html(report, args.html, comparison)
    if args.trace is not None:
        try:
            write_trace(trace, args.trace)
        except OSError as error:
            raise ConfigError(f"--trace {args.trace}: {error.strerror}") from error
    if args.assert_budget:
        return check_budget(report)
    return 0


def check_options(args: argparse.Namespace, config: Config) -> Scenario:
    """Return the scenario of `--scenario`. Raises ConfigError for options that contradict each
    other, before anything is measured."""
    name = args.scenario
    if name not in SCENARIOS:
        raise ConfigError(f"--scenario {name}: allowed: {', '.join(SCENARIOS)}")
    scenario, cores = SCENARIOS[name], len(list_cores())
    scenario.phases(args.seconds or scenario.default_s)
    owners = (("--hogs", args.hogs, "contended"), ("--quota", args.quota, "throttled"))
    for option, value, owner in owners:
        if value is not None and name != owner:
            raise ConfigError(f"{option} {value:g}: only --scenario {owner} uses it")
    if args.hogs is not None and args.hogs < 1:
        raise ConfigError(f"--hogs {args.hogs}: at least 1")
    if args.quota is not None and not 0 < args.quota <= cores:
        raise ConfigError(f"--quota {args.quota:g}: more than 0 and at most {cores} cores")
    if args.repeats < 1:
        raise ConfigError(f"--repeats {args.repeats}: at least 1")
    if is_camera(config.source.name):
        _check_camera(args, scenario)
    for option, file in (("--json", args.json), ("--html", args.html), ("--trace", args.trace)):
        if file is not None and not file.absolute().parent.is_dir():
            raise ConfigError(f"{option} {file}: no such folder")
    if args.html is not None:
        require_libraries()
    return scenario


def _check_camera(args: argparse.Namespace, scenario: Scenario) -> None:
    """Reject options that set the rate of frames or change them: a camera's are as they are."""
    for option, value in (("--fps", args.fps), ("--baseline", args.baseline)):
        if value is not None:
            raise ConfigError(f"{option} {value}: needs a clip or demo, not a camera")
    if scenario.stages_media:
        raise ConfigError(f"--scenario {scenario.name}: needs a clip or demo, not a camera")


def write_json(report: Mapping[str, Any], file: Path) -> None:
    """Write one line for each key, not one for each of 20,000 points. Raises ConfigError."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in report.items())
    try:
        file.write_text(f"{{\n{lines}\n}}\n")
    except OSError as error:
        raise ConfigError(f"--json {file}: {error.strerror}") from error


def check_budget(report: Mapping[str, Any]) -> int:
    p99_ms, budget_ms = report["latency_ms"]["p99"], report["budget_ms"]
    if p99_ms <= budget_ms:
        return 0
    print(f"over budget: p99 is {p99_ms:.1f} ms, {budget_ms:g} ms allowed", file=sys.stderr)
    return EXIT_OVER_BUDGET


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-bench",
        description="Measures the latency from capture to result: frames arrive at a fixed rate,"
        " whether the program keeps up or not. Default: 20 s of the demo at 30 fps.",
    )
    add_common_arguments(parser)
    add = parser.add_argument
    add("--scenario", metavar="NAME", default="steady", help=f"one of: {', '.join(SCENARIOS)}")
    add("--fps", type=positive, help="frames per second of a clip or the demo (default 30)")
    add("--repeats", metavar="N", type=int, default=1, help="run N times, report the medians")
    add(
        "--hogs",
        metavar="N",
        type=int,
        help="contended: N ordinary processes of CPU load (default: a real-time process that leaves"
        f" an eighth of each core, where permitted; else {PER_CORE} a core)",
    )
    add(
        "--quota",
        metavar="CORES",
        type=float,
        help=f"throttled: share of a core that is left (default {DEFAULT_QUOTA:g})",
    )
    add("--baseline", metavar="PROGRAM", type=Path, help="run another program on the same source")
    add(
        "--compare",
        metavar="OLD.json",
        type=Path,
        help="compare the figures with those of an earlier report",
    )
    add("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    add("--html", metavar="FILE", type=Path, help="write a page with plots to FILE")
    add("--trace", metavar="FILE", type=Path, help="write a trace for ui.perfetto.dev to FILE")
    add("--assert-budget", action="store_true", help="exit 1 when p99 exceeds the budget (45 ms)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_guarded(bench, build_parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
