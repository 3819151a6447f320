"""scripts/run, with an environment that is made up: what it passes on, and when it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
FILES = ("pyproject.toml", "setup.py", "constraints.txt")

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "run").exists(), reason="the scripts are not part of the installed package"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose folder's name needs quoting and whose programs only write what they got."""
    root = tmp_path / "a checkout"
    shutil.copytree(SCRIPTS, root / "scripts")
    for name in FILES:
        (root / name).write_text(name)
    programs = root / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip", "emotion-edge"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s|" {name} "$@" >>"{root}/calls"\necho >>"{root}/calls"\n'
        )
        program.chmod(0o755)
    return root


def run(checkout: Path, *arguments: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """The programs that were called, oldest first; started from another folder."""
    (checkout / "calls").write_text("")
    result = subprocess.run(
        [checkout / "scripts" / "run", *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    return (checkout / "calls").read_text().splitlines(), result


@pytest.mark.parametrize(
    ("arguments", "passed_on"),
    [
        ((), "run|"),
        (("my clip.mp4",), "run|--source|my clip.mp4|"),
        (("--help",), "run|--help|"),
        (("--source", "demo", "--seconds", "3"), "run|--source|demo|--seconds|3|"),
    ],
)
def test_arguments(checkout: Path, arguments: tuple[str, ...], passed_on: str) -> None:
    """A lone argument that is no option is a clip; everything else goes through as it is."""
    calls, result = run(checkout, *arguments)
    assert result.returncode == 0, result.stderr
    assert calls[-1] == f"emotion-edge|{passed_on}"


def test_installs_once(checkout: Path) -> None:
    """Again only when the packaging has changed or the checkout has moved."""
    assert any("--editable" in call for call in run(checkout)[0])
    assert run(checkout)[0] == ["emotion-edge|run|"]
    (checkout / "pyproject.toml").write_text("changed")
    assert any("--editable" in call for call in run(checkout)[0])
    moved = checkout.rename(checkout.parent / "moved")
    for program in (moved / ".venv" / "bin").iterdir():
        program.write_text(program.read_text().replace(str(checkout), str(moved)))
    assert any("--editable" in call for call in run(moved)[0])


def test_failed_install_stops_and_is_tried_again(checkout: Path) -> None:
    """No stamp is left behind by an installation that failed."""
    python = checkout / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    calls, result = run(checkout)
    assert result.returncode != 0
    assert calls == []
    python.write_text(good)
    assert any("--editable" in call for call in run(checkout)[0])


def test_missing_microphone_is_reported(checkout: Path) -> None:
    """One line with the way out of it, and the program starts all the same."""
    calls, result = run(checkout)
    assert "sudo apt install portaudio19-dev python3-dev gcc" in result.stderr
    assert calls[-1] == "emotion-edge|run|"
    (checkout / ".venv" / "lib" / "python3.10" / "site-packages" / "pyaudio").mkdir(parents=True)
    assert "microphone" not in run(checkout)[1].stderr


def test_kernel_cache_follows_the_content(checkout: Path) -> None:
    """A change in any file of kernels/, in a subfolder too, selects another cache folder."""

    def find_cache() -> str:
        steps = f'source "{checkout}/scripts/environment.sh"; use_kernel_cache; '
        return subprocess.run(
            ["bash", "-c", f'set -euo pipefail; {steps} echo "$NUMBA_CACHE_DIR"'],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=500,
        ).stdout.strip()

    (checkout / "kernels" / "cpu").mkdir(parents=True)
    (checkout / "kernels" / "spec.py").write_text("a")
    simd = checkout / "kernels" / "cpu" / "simd.py"
    simd.write_text("b")
    first = find_cache()
    assert Path(first).parent == checkout / ".venv" / "numba"
    simd.write_text("c")
    assert find_cache() != first
    simd.write_text("b")
    assert find_cache() == first


def test_python_is_missing(checkout: Path, tmp_path: Path) -> None:
    """A machine without Python, or with an old one, is told what to install."""
    shutil.rmtree(checkout / ".venv")
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("bash", "cat", "dirname"):
        (only / name).symlink_to(str(shutil.which(name)))
    old = only / "python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    result = subprocess.run(
        [checkout / "scripts" / "run"],
        env={"PATH": str(only)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert result.returncode == 1
    assert result.stderr == (
        "python3 of version 3.10 or newer is needed: sudo apt install python3 python3-venv\n"
    )
