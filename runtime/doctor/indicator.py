"""The doctor's look at what shows people that the camera is read. It turns nothing on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .. import config
from ..service.indicator import explain_unusable, find_file
from .check import Check


def may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def check_indicator(
    settings: config.Indicator,
    sys_root: Path = Path("/"),
    may_write: Callable[[Path], bool] = may_write,
) -> Check:
    """As a run does before it reads the first picture."""
    if settings.kind == "none":
        return Check("indicator", "ok", "none: a sign has to say that a camera is read")
    if settings.kind == "screen":
        return Check("indicator", "ok", "the screen")
    try:
        file = find_file(settings.file, sys_root)
    except config.ConfigError as error:
        return Check("indicator", "fail", str(error))
    problem = explain_unusable(file)
    if problem:
        return Check("indicator", "fail", f"{settings.file}: {problem}")
    if not may_write(file):
        how = f"a udev rule, or sudo chmod g+w {settings.file} and its group"
        return Check("indicator", "fail", f"no permission to write {settings.file}: {how}")
    return Check("indicator", "ok", settings.file)
