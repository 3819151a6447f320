"""TensorRT's Python module: loading it, and what it logs.

Every way in which loading fails has its own one-line EngineError with the way on.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

MIN_VERSION = (10, 3)
"""JetPack 6.1 and 6.2 have 10.3. Before that, parts of what is used here are missing."""
SYSTEM_FOLDERS = Path("/usr/lib")
MAX_LINES = 4
MAX_LINE = 300


class TensorRTDiagnostics:
    """The last errors and warnings of TensorRT, for messages: its calls return None and say why
    in the log alone."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=MAX_LINES)
        self.warnings: deque[str] = deque(maxlen=MAX_LINES)

    def explain(self) -> str:
        """One line."""
        lines = self.errors or self.warnings
        return "; ".join(lines) or "TensorRT does not say why"

    def clear(self) -> None:
        self.errors.clear()
        self.warnings.clear()


def load_tensorrt(system_folders: Path = SYSTEM_FOLDERS) -> str:
    """Import `tensorrt` and return its version. Raises EngineError."""
    try:
        import tensorrt as trt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise EngineError(f"TensorRT cannot be loaded: {error}") from error
        raise EngineError(_explain_missing(system_folders)) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"TensorRT cannot be loaded: {_first_line(str(error))}: it does not belong to this"
            " driver or JetPack; in a container take the image of the host's JetPack"
        ) from error
    version = str(trt.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < MIN_VERSION:
        raise EngineError(
            f"TensorRT {version} is too old: {'.'.join(map(str, MIN_VERSION))} or newer is needed"
            " (JetPack 6.1)"
        )
    return version


def _explain_missing(system_folders: Path) -> str:
    """On a Jetson it comes with the system, where a virtual environment does not look."""
    found = sorted(system_folders.glob("python3*/dist-packages/tensorrt/__init__.py"))
    in_environment = sys.prefix != sys.base_prefix
    if found and in_environment:
        return (
            f"TensorRT is in {found[0].parent.parent}, which this virtual environment does not"
            f" see: python3 -m venv --system-site-packages {sys.prefix}"
        )
    if found:
        return f"TensorRT is in {found[0].parent.parent}, which {sys.executable} does not read"
    return "TensorRT is not installed: on a Jetson sudo apt install python3-libnvinfer"


def make_logger(diagnostics: TensorRTDiagnostics) -> trt.ILogger:
    """TensorRT's log goes to logging, its last complaints to `diagnostics`."""
    import tensorrt as trt

    severity_of = trt.ILogger.Severity

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            line = " ".join(msg.split())[:MAX_LINE]
            if severity in (severity_of.INTERNAL_ERROR, severity_of.ERROR):
                diagnostics.errors.append(line)
                log.debug("TensorRT error: %s", line)  # the EngineError will say it
            elif severity == severity_of.WARNING:
                diagnostics.warnings.append(line)
                log.info("TensorRT: %s", line)
            else:
                log.debug("TensorRT: %s", line)

    return Logger()


def explain_failure(
    what: str, diagnostics: TensorRTDiagnostics, version: str, capability: str
) -> EngineError:
    """What to tell the user when TensorRT returned nothing: three causes are known by name."""
    reason = diagnostics.explain()
    lines: Sequence[str] = [*diagnostics.errors, *diagnostics.warnings]
    text = " ".join(lines).lower()
    if "unsupported sm" in text or ("gpu sm" in text and "not supported" in text):
        return EngineError(
            f"{what}: TensorRT {version} has nothing for this GPU (compute capability"
            f" {capability}): install the TensorRT of the board's JetPack ({reason})"
        )
    if re.search(r"initialization failure with error:? 35\b", text):  # cudaErrorInsufficientDriver
        return EngineError(f"{what}: the NVIDIA driver is too old for TensorRT {version}: {reason}")
    if "out of memory" in text or "outofmemory" in text:
        return EngineError(f"{what}: out of memory: close other programs ({reason})")
    return EngineError(f"{what}: {reason}")


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no reason given"])[0]
