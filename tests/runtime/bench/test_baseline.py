"""Runs of another program: its figures, and every way it can fail."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE
from emotion_edge.runtime.bench.baseline import run_baseline
from emotion_edge.runtime.config import ConfigError

NAIVE = Path(__file__).parents[3] / "scripts" / "naive_baseline"
GOOD = {"latency_ms": [10.0, 20.0, 30.0, 100.0], "frames": 6, "dropped": 2}

MakeProgram = Callable[..., Path]


@pytest.fixture
def make_program(tmp_path: Path) -> MakeProgram:
    """A function that writes a program of these lines. Its last option is the result file."""

    def make(*lines: str, name: str = "program", head: str = "#!/usr/bin/env python3") -> Path:
        program = tmp_path / name
        program.write_text("\n".join([head, "import sys", *lines]) + "\n")
        return program

    return make


def write(result: object) -> str:
    """Return the line that writes `result` as JSON."""
    return f"open(sys.argv[-1], 'w').write({json.dumps(result)!r})"


def run(program: Path, seconds: float = 2.0, grace_s: float = 500.0) -> dict[str, object]:
    return run_baseline(program, "demo", seconds, 30.0, Path("bundle"), 45.0, grace_s)


def test_figures(make_program: MakeProgram) -> None:
    """Percentiles are values that occurred, misses are by the same budget."""
    assert run(make_program(write(GOOD))) == {
        "program": "program",
        "latency_ms": {"p50": 20.0, "p90": 100.0, "p95": 100.0, "p99": 100.0}
        | {"max": 100.0, "mean": 40.0},
        "misses": 1,
        "frames": 6,
        "dropped": 2,
        "estimates": 4,
    }


def test_options_are_passed_on(make_program: MakeProgram, tmp_path: Path) -> None:
    """The program gets the options of scripts/naive_baseline."""
    seen = tmp_path / "seen"
    run(make_program(f"open({str(seen)!r}, 'w').write(' '.join(sys.argv[1:-1]))", write(GOOD)))
    assert seen.read_text() == "--source demo --seconds 2 --fps 30 --bundle bundle --json"


def test_own_python_runs_scripts(make_program: MakeProgram) -> None:
    """A script needs no execute permission."""
    program = make_program(write(GOOD), name="x.py", head="")
    assert run(program)["program"] == "x.py"


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["raise SystemExit('first\\nlast words')"], "last words"),
        (["sys.exit(3)"], "3"),
        (["pass"], "result.json"),
        (["open(sys.argv[-1], 'w').write('{')"], "result.json"),
        ([write([])], "program"),
        ([write({**GOOD, "latency_ms": []})], "latency_ms"),
        ([write({**GOOD, "latency_ms": [1.0, "x"]})], r"latency_ms\[1\]|latency_ms\[\.\.\.\]"),
        ([write({**GOOD, "latency_ms": [-1.0]})], "latency_ms"),
        ([write({**GOOD, "frames": 1.5})], "frames"),
        ([write({"latency_ms": [1.0], "frames": 1})], "dropped"),
    ],
)
def test_failures_are_one_line(make_program: MakeProgram, lines: list[str], names: str) -> None:
    """The line names the last message, the exit code, the file or the field."""
    with pytest.raises(ConfigError, match=names) as caught:
        run(make_program(*lines))
    assert "\n" not in str(caught.value)


def test_program_that_hangs_is_stopped(make_program: MakeProgram) -> None:
    """It has its own time and the grace."""
    with pytest.raises(ConfigError, match="program"):
        run(make_program("import time", "time.sleep(600)"), seconds=0.2, grace_s=0.3)


def test_missing_program_is_one_line(tmp_path: Path) -> None:
    """So is a file that is no program."""
    with pytest.raises(ConfigError, match="none"):
        run(tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("just text")
    with pytest.raises(ConfigError, match="text"):
        run(text)


@pytest.mark.skipif(not NAIVE.exists(), reason="the scripts are not part of the installed package")
@pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="librosa is not installed")
def test_naive_baseline_runs() -> None:
    """scripts/naive_baseline runs on the demo for 2 s and has results."""
    figures = run_baseline(NAIVE, "demo", 2.0, 15.0, DEFAULT_BUNDLE, 45.0, grace_s=500.0)
    assert figures["estimates"] > 0
    assert figures["frames"] == figures["estimates"] + figures["dropped"]
    assert figures["latency_ms"]["p50"] > 0
