"""Exit codes: systemd tries again after a fault of the system, never after a usage error."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import pytest

from emotion_edge.runtime.command_line import EXIT_ENVIRONMENT, EXIT_USAGE, run_guarded
from emotion_edge.runtime.config import ConfigError, load_config

OUTSIDE = [errno.ENOSPC, errno.EMFILE, errno.EIO, errno.ENOMEM, errno.EROFS, errno.EADDRINUSE]
ASKED_FOR = [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG]


def run(error: Exception) -> int:
    def command(_: argparse.Namespace) -> int:
        raise error

    return run_guarded(command, argparse.Namespace())


@pytest.mark.parametrize("number", [*OUTSIDE, *ASKED_FOR])
def test_cause_of_a_configuration_error(capsys: pytest.CaptureFixture[str], number: int) -> None:
    """One line; the code is that of the cause."""
    error = ConfigError("some/file: cannot be read")
    error.__cause__ = OSError(number, os.strerror(number))
    assert run(error) == (EXIT_ENVIRONMENT if number in OUTSIDE else EXIT_USAGE)
    assert capsys.readouterr().err == "some/file: cannot be read\n"


@pytest.mark.parametrize("number", OUTSIDE)
def test_fault_of_the_system(capsys: pytest.CaptureFixture[str], number: int) -> None:
    """It may come from any call."""
    assert run(OSError(number, "no more", "x\n\x1b")) == EXIT_ENVIRONMENT
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_error_of_the_program() -> None:
    """Others are bugs and keep their traceback."""
    with pytest.raises(OSError, match="bug"):
        run(OSError(errno.EBADF, "bug"))


def test_configuration_on_a_disk_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service must come back when the disk does."""

    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = tmp_path / "config.yaml"
    file.touch()
    monkeypatch.setattr(Path, "read_text", fail)
    assert run_guarded(lambda _: bool(load_config(file)), argparse.Namespace()) == EXIT_ENVIRONMENT
