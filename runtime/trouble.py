"""How trouble is told that comes and goes: once when it begins, once when it is over."""

from __future__ import annotations

import logging


def tell_change(log: logging.Logger, before: str, now: str, well: str) -> str:
    """`before` and `now` are in one line, "" for none; `well` is said at the end -> `now`."""
    if bool(now) != bool(before):
        log.warning("%s", now or well)
    return now
