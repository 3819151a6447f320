"""What a look of the doctor at something comes to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """What one look found: "ok", "warn" (a run works without it), "fail" (it does not)."""

    name: str
    state: Literal["ok", "warn", "fail"]
    message: str


def is_writable(folder: Path) -> bool:
    """By trying: a permission says nothing about a read-only file system."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False
