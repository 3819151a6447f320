"""The command lines of training and calibration: exit codes, one-line errors, no slow imports."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import pytest

from emotion_edge.training.command_line import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    LIBRARIES,
    run_command_line,
)

SLOW = ("torch", "sklearn", "scipy", "onnx", "onnxruntime", "cv2", "numba", "matplotlib", "av")


def run(command: Callable[[argparse.Namespace], int | None]) -> int:
    parser = argparse.ArgumentParser(prog="some-program")
    parser.set_defaults(run=command, command="work")
    return run_command_line(parser, (KeyError,), [])


def raise_error(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def command(_: argparse.Namespace) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (KeyError("two\nlines"), EXIT_USER_ERROR, "two"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "work"),
        *((ModuleNotFoundError(name=name), EXIT_USER_ERROR, name) for name in LIBRARIES),
        (ModuleNotFoundError(name="torch.nn"), EXIT_USER_ERROR, "emotion-edge[train]"),
    ],
)
def test_error_is_one_line(
    error: BaseException, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raise_error(error)) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="emotion_edge.x"), ValueError("bug")])
def test_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(raise_error(error))


@pytest.mark.parametrize("code", [None, 0, 1])
def test_code_of_the_command(code: int | None) -> None:
    assert run(lambda _: code) == (code or 0)


@pytest.mark.parametrize("module", ["training", "calibration"])
def test_help_loads_no_slow_library(module: str) -> None:
    """The parsers of all commands are built without one, so `--help` comes at once."""
    code = f"""import sys
import emotion_edge.{module}.__main__ as program
program.build_parser()
print(*(set(sys.modules) & set({SLOW})))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
