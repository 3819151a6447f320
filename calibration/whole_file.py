"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from .errors import CalibrationError


def atomic_write(file: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Let `fill` write, then put the result in place of `file`; its folder is made. Raises
    CalibrationError; then `file` is as it was."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            fill(stream)
        partial.replace(file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CalibrationError(f"{file}: cannot be written: {error.strerror}") from error
