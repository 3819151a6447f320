"""`emotion-bench`: how late results are on this machine, measured as a user would feel it.

Pictures arrive open-loop at a camera's rate: the schedule never waits for the program, so a late
result delays the next one's measure too. Latency is capture to result.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from .__main__ import add_common_arguments, build_config, guard, positive
from .app import LiveRun
from .board import describe_machine
from .config import ConfigError
from .messages import CapturePath, Estimate

WARM_UP_S = 1.0
"""Results of the first second are left out: engines are warm by then, caches are not."""
MEASURED_PACKAGES = (
    "emotion-edge",
    "numpy",
    "numba",
    "onnxruntime",
    "tensorrt",
    "pycuda",
    "opencv-python-headless",
    "av",
)
EXIT_OVER_BUDGET = 1


class Recorder:
    """A sink that keeps the figures of every estimate."""

    def __init__(self) -> None:
        self.latency_ms: list[float] = []
        self.stages_ms: list[dict[str, float]] = []
        self.faces = 0
        self.voices = 0
        self.first_index: int | None = None
        self.last_index = 0
        self.estimates = 0
        self.first_result_s = 0.0
        """From the start of the process to the first result."""
        self._first_ns: int | None = None

    def publish(self, estimate: Estimate) -> None:
        if self._first_ns is None:
            self._first_ns = estimate.t_ns
            self.first_result_s = time.time() - psutil.Process().create_time()
        if estimate.t_ns - self._first_ns < WARM_UP_S * 1e9:
            return
        if self.first_index is None:
            self.first_index = estimate.index
        self.last_index = estimate.index
        self.estimates += 1
        self.faces += estimate.face is not None
        self.voices += estimate.voice is not None
        self.latency_ms.append(estimate.latency_us / 1e3)
        self.stages_ms.append({name: us / 1e3 for name, us in estimate.stages_us.items()})

    def close(self) -> None: ...


def percentile(values: Sequence[float], rank: float) -> float:
    """Nearest rank: the smallest value that `rank` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * rank / 100) - 1)]


def summarise(recorder: Recorder, budget_ms: float) -> dict[str, Any]:
    """The figures of a run, as in the JSON file."""
    latency, stages = recorder.latency_ms, recorder.stages_ms
    frames = recorder.last_index - (recorder.first_index or 0) + 1
    networks = [s["face"] + s["voice"] for s in stages]
    return {
        "latency_ms": {
            **{f"p{rank}": round(percentile(latency, rank), 3) for rank in (50, 90, 99)},
            "max": round(max(latency), 3),
        },
        "networks_ms": {f"p{rank}": round(percentile(networks, rank), 3) for rank in (50, 90, 99)},
        "p50_over_networks": round(
            percentile(latency, 50) / max(percentile(networks, 50), 1e-6), 3
        ),
        "stages_ms": {
            name: {
                f"p{rank}": round(percentile([s[name] for s in stages], rank), 3)
                for rank in (50, 99)
            }
            for name in stages[0]
        },
        "budget_ms": budget_ms,
        "misses": sum(value > budget_ms for value in latency),
        "frames": frames,
        "dropped": frames - recorder.estimates,
        "estimates": recorder.estimates,
        "with_face": recorder.faces,
        "with_voice": recorder.voices,
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in MEASURED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe_capture(path: CapturePath | None) -> dict[str, Any]:
    """How the pictures came in, as in the JSON file."""
    return asdict(path) if path is not None else dict.fromkeys(CapturePath.__slots__)


def print_report(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['source']}, {report['frames']} frames, level {report['level']}")
    for heading in ("ms", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "ms" else "right")

    def row(name: str, figures: dict[str, float], style: str = "") -> None:
        cells = [f"{figures[k]:.2f}" if k in figures else "" for k in ("p50", "p90", "p99", "max")]
        table.add_row(name, *cells, style=style)

    row("capture to result", report["latency_ms"], "bold")
    row("  networks alone", report["networks_ms"])
    for name, figures in report["stages_ms"].items():
        row(f"  {name}", figures)
    console = Console()
    console.print(table)
    console.print(
        f"budget {report['budget_ms']:g} ms: {report['misses']} misses;"
        f" {report['dropped']} frames dropped; face in {report['with_face']}, voice in"
        f" {report['with_voice']} of {report['estimates']}; p50 is"
        f" {report['p50_over_networks']:.2f} x the networks; {report['rss_mb']:.0f} MB resident;"
        f" first result {report['first_result_s']:.1f} s after the start"
    )
    engines = ", ".join(f"{name} on {engine}" for name, engine in report["engines"].items())
    console.print(f"{engines}; input prepared on {report['preprocessor']}")
    capture = report["capture"]
    console.print(
        f"capture: {capture['copies_per_frame']} copies a frame, clock {capture['clock_domain']},"
        f" zero-copy {capture['zero_copy']}"
    )


def bench(args: argparse.Namespace) -> int:
    config = build_config(args, ["source.loop=true"], default_source="demo")
    recorder = Recorder()
    live = LiveRun(config, [recorder], replay_fps=args.fps)
    seconds = (args.seconds or 20.0) + WARM_UP_S
    runtime = live.run(seconds)
    if not recorder.latency_ms:
        raise ConfigError(f"source {config.source.name}: no result in {seconds:g} s")
    report = {
        **summarise(recorder, config.budget_ms),
        "first_result_s": round(recorder.first_result_s, 2),
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
        "source": Path(config.source.name).name,
        "fps": args.fps,
        "capture": describe_capture(runtime.capture_path),
        "engines": dict(runtime.engines),
        "preprocessor": "cuda" if runtime.on_gpu else "cpu",
        "level": runtime.level.name,
        "machine": describe_machine(),
        "versions": versions(),
        "bundle": runtime.bundle.sha256,
    }
    print_report(report)
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"--json {args.json}: {error.strerror}") from error
    over = report["latency_ms"]["p99"] > config.budget_ms
    if args.assert_budget and over:
        print(
            f"over budget: p99 is {report['latency_ms']['p99']:.1f} ms,"
            f" {config.budget_ms:g} ms allowed",
            file=sys.stderr,
        )
        return EXIT_OVER_BUDGET
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="emotion-bench",
        description="Measures capture-to-result latency: pictures arrive at a fixed rate, whatever"
        " the program does. Default: 20 s of the demo at 30 fps.",
    )
    add_common_arguments(parser)
    parser.add_argument("--fps", type=positive, default=30.0, help="pictures a second (default 30)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    parser.add_argument(
        "--assert-budget", action="store_true", help="exit 1 when p99 exceeds the budget (45 ms)"
    )
    return guard(bench, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
