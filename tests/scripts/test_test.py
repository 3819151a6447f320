"""scripts/test --under-load in a fake environment."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from .. import processes

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
FILES = ("pyproject.toml", "setup.py", "constraints.txt")
PYTHON = """\
#!{python}
import os, sys, psutil
if sys.argv[1] == "-c":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
if sys.argv[1:3] == ["-m", "pytest"]:
    siblings = psutil.Process(os.getppid()).children()
    print(*(process.pid for process in siblings if process.pid != os.getpid()), flush=True)
    print(*sys.argv[3:], flush=True)
    if sys.argv[3] == "kill":
        os.kill(os.getppid(), 9)
    sys.exit(5)
"""

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "test").exists(), reason="the scripts are not part of the installed package"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Python prints the processes beside pytest instead of running it."""
    root = tmp_path / "a checkout"
    shutil.copytree(SCRIPTS, root / "scripts")
    for name in FILES:
        (root / name).write_text(name)
    programs = root / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip"):
        (programs / name).write_text(PYTHON.format(python=sys.executable))
        (programs / name).chmod(0o755)
    return root


@pytest.mark.parametrize(("action", "code"), [("end", 5), ("kill", -signal.SIGKILL)])
def test_under_load(checkout: Path, action: str, code: int) -> None:
    """Eight busy processes run beside pytest, which gets the other arguments and sets the exit
    code. None is left when the script ends or is killed."""
    done = subprocess.run(
        [checkout / "scripts" / "test", "--under-load", action, "-k", "a test"],
        capture_output=True,  # waits for all processes that could write there
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == code, done.stderr
    beside, arguments = done.stdout.splitlines()
    assert len(beside.split()) == 8
    assert arguments == f"{action} -k a test"
    left = [psutil.Process(pid) for pid in map(int, beside.split()) if psutil.pid_exists(pid)]
    processes.wait_gone(left)
