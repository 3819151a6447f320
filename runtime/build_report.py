"""What is said while TensorRT builds an engine: to systemd, to the log, to who looks on."""

from __future__ import annotations

import logging
import sys

from .service.sd_notify import Watchdog

log = logging.getLogger(__name__)

EXTEND_TIMEOUT_S = 60
"""What systemd is asked to wait for the next word; there is one every few seconds."""


def report_build_progress(text: str, watchdog: Watchdog | None = None) -> None:
    """One line. A terminal gets it too: minutes without a word look like a program that hangs."""
    if watchdog is not None:
        watchdog.extend_timeout(text, EXTEND_TIMEOUT_S)
    if sys.stderr.isatty() and not log.isEnabledFor(logging.INFO):
        sys.stderr.write(f"{text}\n")
    log.info("%s", text)
