"""JSON files that somebody else wrote: read up to a size and checked before they are believed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import msgspec

from ..config import ConfigError

MAX_BYTES = 64 * 1024 * 1024


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises ConfigError, one line that names the file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
            raise ConfigError(f"{file}: not a file")
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}: more than the {MAX_BYTES // 1024**2} MiB that are allowed")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error


def check_shape(file: Path, found: Any, shape: type[msgspec.Struct]) -> None:
    """Raises ConfigError, one line that names the file and the field that is not as in `shape`.

    Fields that `shape` does not have are not looked at.
    """
    try:
        msgspec.convert(found, shape)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"{file}: {error}") from error
