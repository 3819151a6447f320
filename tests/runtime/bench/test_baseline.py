"""Another program beside the runtime: what it writes is checked, however it fails."""

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
    """Lines of Python -> a program whose last option is the file to write to."""

    def make(*lines: str, name: str = "program", head: str = "#!/usr/bin/env python3") -> Path:
        program = tmp_path / name
        program.write_text("\n".join([head, "import sys", *lines]) + "\n")
        return program

    return make


def write(result: object) -> str:
    """The line that writes `result` as JSON."""
    return f"open(sys.argv[-1], 'w').write({json.dumps(result)!r})"


def run(program: Path, seconds: float = 2.0, grace_s: float = 500.0) -> dict[str, object]:
    """A run with what does not matter here."""
    return run_baseline(program, "demo", seconds, 30.0, Path("bundle"), 45.0, grace_s)


def test_figures_are_of_what_was_written(make_program: MakeProgram) -> None:
    """Percentiles that occurred, and misses by the same budget."""
    found = run(make_program(write(GOOD)))
    assert found == {
        "program": "program",
        "latency_ms": {"p50": 20.0, "p90": 100.0, "p95": 100.0, "p99": 100.0}
        | {"max": 100.0, "mean": 40.0},
        "misses": 1,
        "frames": 6,
        "dropped": 2,
        "estimates": 4,
    }


def test_options_are_passed_on(make_program: MakeProgram, tmp_path: Path) -> None:
    """As the script that ships reads them."""
    seen = tmp_path / "seen"
    run(make_program(f"open({str(seen)!r}, 'w').write(' '.join(sys.argv[1:-1]))", write(GOOD)))
    assert seen.read_text() == "--source demo --seconds 2 --fps 30 --bundle bundle --json"


def test_own_python_runs_scripts(make_program: MakeProgram) -> None:
    """No program of that name is looked for, and no right to execute is needed."""
    program = make_program(write(GOOD), name="x.py", head="")
    assert run(program)["program"] == "x.py"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["raise SystemExit('first\\nlast words')"], "ended with 1: last words"),
        (["sys.exit(3)"], "ended with 3: it said nothing"),
        (["pass"], "cannot be read: No such file"),
        (["open(sys.argv[-1], 'w').write('{')"], "not JSON"),
        ([write([])], "what .*program wrote"),
        ([write({**GOOD, "latency_ms": []})], "latency_ms"),
        ([write({**GOOD, "latency_ms": [1.0, "x"]})], r"latency_ms\[1\]|latency_ms\[\.\.\.\]"),
        ([write({**GOOD, "latency_ms": [-1.0]})], "latency_ms"),
        ([write({**GOOD, "frames": 1.5})], "frames"),
        ([write({"latency_ms": [1.0], "frames": 1})], "dropped"),
    ],
)
def test_failures_are_one_line(make_program: MakeProgram, lines: list[str], said: str) -> None:
    """The line names the program or its field."""
    with pytest.raises(ConfigError, match=said) as caught:
        run(make_program(*lines))
    assert "\n" not in str(caught.value)


def test_program_that_hangs_is_stopped(make_program: MakeProgram) -> None:
    """After its own time and the grace."""
    with pytest.raises(ConfigError, match="not done after"):
        run(make_program("import time", "time.sleep(600)"), seconds=0.2, grace_s=0.3)


def test_missing_program_is_one_line(tmp_path: Path) -> None:
    """So is one that is no program."""
    with pytest.raises(ConfigError, match="No such file"):
        run(tmp_path / "none")
    text = tmp_path / "text"
    text.write_text("just text")
    with pytest.raises(ConfigError, match="cannot be run: Permission denied"):
        run(text)


@pytest.mark.skipif(not NAIVE.exists(), reason="the scripts are not part of the installed package")
@pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="librosa is not installed")
def test_naive_baseline_runs() -> None:
    """The script that ships sees the demo for 2 s and gets results."""
    found = run_baseline(NAIVE, "demo", 2.0, 15.0, DEFAULT_BUNDLE, 45.0, grace_s=500)
    assert found["estimates"] > 0
    assert 0 < found["frames"] <= 61
    assert found["frames"] == found["estimates"] + found["dropped"]
    assert found["latency_ms"]["p50"] > 0
