"""What a look of the doctor at something comes to, and what several of them ask."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...kernels import can_write


@dataclass(frozen=True, slots=True)
class Check:
    """What one look found: "ok", "warn" (a run works without it), "fail" (it does not)."""

    name: str
    state: Literal["ok", "warn", "fail"]
    message: str


def may_open(path: Path) -> bool:
    """To read and to write."""
    return os.access(path, os.R_OK | os.W_OK)


def is_writable(folder: Path) -> bool:
    """By trying: a permission says nothing about a read-only file system."""
    return can_write(next(path for path in (folder, *folder.absolute().parents) if path.exists()))


def join_group(group: str) -> str:
    """What to type where a device is its group's."""
    return f"sudo usermod -aG {group} $USER, then log in again"
