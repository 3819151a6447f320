"""The result of one check of the doctor, and the questions that several checks share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...kernels import can_write


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    state: Literal["ok", "warn", "fail"]
    """"warn": a run works without it. "fail": a run does not work."""
    message: str


def may_open(path: Path) -> bool:
    """Return whether a device may be read and written."""
    return os.access(path, os.R_OK | os.W_OK)


def may_write(path: Path) -> bool:
    """Return whether a file may be written."""
    return os.access(path, os.W_OK)


def is_writable(folder: Path) -> bool:
    """Return whether a folder can be written or created.

    It tries: permissions do not show a read-only file system.
    """
    return can_write(next(path for path in (folder, *folder.absolute().parents) if path.exists()))


def join_group(group: str) -> str:
    """Return the remedy for a device that belongs to `group`."""
    return f"sudo usermod -aG {group} $USER, then log in again"
