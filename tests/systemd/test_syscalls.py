"""The program under the system-call filter of its unit, without systemd."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from emotion_edge.runtime.service.realtime import realtime_permitted

from .unit_root import read_settings, run_tool

SCRIPT = Path(__file__).with_name("run_filtered.py")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@cache
def expand(name: str) -> frozenset[str]:
    """Return a system call, or all of a set such as @system-service."""
    if not name.startswith("@"):
        return frozenset({name})
    done = run_tool("systemd-analyze", "syscall-filter", name)
    members = (line.strip() for line in done.stdout.splitlines()[1:])
    return expand_all([member for member in members if member and not member.startswith("#")])


def expand_all(names: list[str]) -> frozenset[str]:
    return frozenset(call for name in names for call in expand(name))


def list_allowed() -> frozenset[str]:
    """Return the calls that the units allow; systemd adds @default."""
    allowed = expand("@default")
    for key, value in read_settings("sandbox.conf"):
        if key == "SystemCallFilter":
            names = expand_all(value.removeprefix("~").split())
            allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed


@pytest.fixture(scope="module")
def run_filtered() -> Run:
    """A function that runs Python with these arguments under the filter."""
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    allowed = ",".join(sorted(list_allowed()))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, SCRIPT, allowed, sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )

    return run


def test_program_runs(run_filtered: Run) -> None:
    """With real networks, compiled kernels and threads there are estimates and no warnings."""
    run = ("-m", "emotion_edge.runtime", "run", "--source", "demo", "--seconds", "1")
    done = run_filtered(*run, "--output", "jsonl:-", "--set", "budget_ms=10000")
    assert (done.returncode, done.stderr) == (0, "")
    estimates = [json.loads(line) for line in done.stdout.splitlines()]
    assert estimates[-1]["label"]


def test_page_is_served(run_filtered: Run) -> None:
    """By a process of its own, which the filter permits to start and to forbid itself files."""
    code = (
        "import urllib.request;"
        " from emotion_edge.runtime.config import Web;"
        " from emotion_edge.runtime.web.sink import WebSink;"
        " sink = WebSink(Web(port=0), 45.0, lambda _: b'');"
        " print(urllib.request.urlopen(sink.url, timeout=500).status); sink.close()"
    )
    done = run_filtered("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("200", "")


def test_filter_is_on(run_filtered: Run, tmp_path: Path) -> None:
    """The owner of a file cannot be changed, even by root."""
    file = tmp_path / "file"
    file.touch()
    done = run_filtered("-c", f"import os; os.chown({str(file)!r}, {os.geteuid()}, {os.getegid()})")
    assert done.returncode == 1
    assert "PermissionError" in done.stderr


def test_realtime_threads_are_permitted(run_filtered: Run) -> None:
    """As far as they are without the filter."""
    code = (
        "from emotion_edge.runtime.service.realtime import *;"
        " print(realtime_permitted()); run_in_background()"
    )
    done = run_filtered("-c", code)
    assert (done.stdout.strip(), done.stderr) == (str(realtime_permitted()), "")
