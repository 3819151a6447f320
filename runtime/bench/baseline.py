"""Run of another program on the same source, for a comparison side by side.

In: a program that takes `--source --seconds --fps --bundle --json FILE` and writes
`{"latency_ms": [one of each result], "frames": n, "dropped": n}` to FILE.
Out: its figures, as under "beside" in the report.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from ..config import ConfigError
from .compare import check_shape, read_json
from .summary import percentiles_by_name

GRACE_S = 60.0
"""Time for starting, loading and stopping."""
RANKS = (50, 90, 95, 99)

_Milliseconds = Annotated[float, Meta(ge=0.0)]
_Count = Annotated[int, Meta(ge=0)]


class _Result(msgspec.Struct):
    latency_ms: Annotated[list[_Milliseconds], Meta(min_length=1)]
    frames: _Count
    dropped: _Count


def run_baseline(
    program: Path,
    source: str,
    seconds: float,
    fps: float,
    bundle: Path,
    budget_ms: float,
    grace_s: float = GRACE_S,
) -> dict[str, Any]:
    """Run `program` for `seconds` and return its figures.

    It is stopped `grace_s` after its time. Raises ConfigError, one line with the last line of its
    stderr, when it fails, takes longer, or writes something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        options = {
            "--source": source,
            "--seconds": f"{seconds:g}",
            "--fps": f"{fps:g}",
            "--bundle": str(bundle),
            "--json": str(file),
        }
        command = [*_name_command(program), *(word for pair in options.items() for word in pair)]
        _run(command, program, seconds + grace_s)
        result = read_json(file)
        check_shape(Path(f"result of {program}"), result, _Result)
    return _summarise(result, program.name, budget_ms)


def _name_command(program: Path) -> list[str]:
    """Return the command. A Python script runs on this Python, which has the packages."""
    try:
        with program.open("rb") as opened:
            first_line = opened.readline(256)
    except OSError as error:
        raise ConfigError(f"baseline {program}: {error.strerror}") from error
    is_python = program.suffix == ".py" or (first_line[:2] == b"#!" and b"python" in first_line)
    return [*([sys.executable] if is_python else []), str(program.absolute())]


def _run(command: list[str], program: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"baseline {program}: not done after {timeout_s:g} s") from error
    except OSError as error:
        raise ConfigError(f"baseline {program}: cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        raise ConfigError(f"baseline {program}: ended with {done.returncode}: {last}")


def _summarise(result: dict[str, Any], name: str, budget_ms: float) -> dict[str, Any]:
    latency = np.array(result["latency_ms"], np.float64)
    figures = percentiles_by_name(latency, *RANKS)
    figures.update(max=float(latency.max()), mean=float(latency.mean()))
    return {
        "program": name,
        "latency_ms": {key: round(value, 3) for key, value in figures.items()},
        "misses": int((latency > budget_ms).sum()),
        "frames": result["frames"],
        "dropped": result["dropped"],
        "estimates": len(latency),
    }
