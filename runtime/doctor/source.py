"""Check of the configured source: whether it exists, and whether a network stream answers.

In: the section `source`. Out: a `Check` without secrets. Only the stream that is configured is
connected to, as a run would, with the capture indicator on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import config
from ..capture import find_kind, find_path, show_source
from ..messages import SourceError
from ..service import IndicatorError, open_indicator
from .check import Check


def check_source(
    source: config.Source,
    indicator: config.Indicator,
    may_connect: bool,
    sys_root: Path = Path("/"),
    open_url: Callable[[str], Any] | None = None,
) -> Check:
    """`may_connect`: open a network stream too. `open_url`: as `capture.stream_input.open_url`."""
    kind, shown = find_kind(source.name), show_source(source.name)
    if kind == "stream":
        if not may_connect:
            return Check("source", "ok", f"{shown}, not tried")
        if indicator.kind == "screen":
            return Check("source", "ok", f"{shown}, not tried: the indicator is the screen")
        return _check_stream(source.name, shown, indicator, sys_root, open_url)
    if kind == "none":
        return Check("source", "ok", "a microphone alone")
    if kind not in ("file", "pipe"):
        return Check("source", "ok", shown)
    path = find_path(source.name)
    if kind == "file" and not path.exists():
        return Check("source", "fail", f"{shown}: no such file")
    if not os.access(path, os.R_OK):
        return Check("source", "fail", f"no permission to read {shown}")
    return Check("source", "ok", shown)


def _check_stream(
    url: str,
    shown: str,
    indicator: config.Indicator,
    sys_root: Path,
    open_url: Callable[[str], Any] | None,
) -> Check:
    from ..capture import stream_input

    open_url = open_url or stream_input.open_url
    try:
        with open_indicator(indicator, (), sys_root) as light:
            light.turn_on()
            with open_url(url) as container:
                kinds = [kind for kind in ("video", "audio") if getattr(container.streams, kind)]
    except (config.ConfigError, IndicatorError) as error:
        return Check("source", "warn", f"{shown}, not tried: {error}")
    except SourceError as error:
        return Check("source", "fail", str(error))
    return Check("source", "ok", f"{shown}: {' and '.join(kinds)}")
