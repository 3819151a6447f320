"""TensorRT's Python module: import, log and diagnostics.

Out: the version of the imported module, a logger for it, and one-line EngineErrors that name the
cause and the remedy.
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
"""JetPack 6.1 and 6.2 have 10.3. Older versions lack calls that are used here."""
SYSTEM_FOLDERS = Path("/usr/lib")
MAX_LINES = 4
MAX_LINE = 300


class TensorRTDiagnostics:
    """The last errors and warnings in TensorRT's log, the only place where its calls that return
    None give a reason."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=MAX_LINES)
        self.warnings: deque[str] = deque(maxlen=MAX_LINES)

    def explain(self) -> str:
        """Return the reason in one line."""
        lines = self.errors or self.warnings
        return "; ".join(lines) or "TensorRT gives no reason"

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
            f"TensorRT cannot be loaded: {_first_line(str(error))}: it does not match this"
            " driver or JetPack; in a container use the image of the host's JetPack"
        ) from error
    version = str(trt.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < MIN_VERSION:
        raise EngineError(
            f"TensorRT {version} is too old: {'.'.join(map(str, MIN_VERSION))} or newer wanted"
            " (JetPack 6.1)"
        )
    return version


def _explain_missing(system_folders: Path) -> str:
    """JetPack installs it in the system's Python, which a virtual environment may not see."""
    packages = sorted(system_folders.glob("python3*/dist-packages/tensorrt/__init__.py"))
    if not packages:
        return "TensorRT is not installed: on a Jetson sudo apt install python3-libnvinfer"
    folder = packages[0].parent.parent
    if sys.prefix == sys.base_prefix:
        return f"TensorRT is in {folder}, which is not on the path of {sys.executable}"
    return (
        f"TensorRT is in {folder}, which this virtual environment does not"
        f" see: python3 -m venv --system-site-packages {sys.prefix}"
    )


def make_logger(diagnostics: TensorRTDiagnostics) -> trt.ILogger:
    """Return a TensorRT logger that writes to logging, and errors and warnings to `diagnostics`."""
    import tensorrt as trt

    severity_of = trt.ILogger.Severity

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            line = " ".join(msg.split())[:MAX_LINE]
            if severity in (severity_of.INTERNAL_ERROR, severity_of.ERROR):
                diagnostics.errors.append(line)
                log.debug("TensorRT error: %s", line)  # part of the EngineError
            elif severity == severity_of.WARNING:
                diagnostics.warnings.append(line)
                log.info("TensorRT: %s", line)
            else:
                log.debug("TensorRT: %s", line)

    return Logger()


def explain_failure(
    what: str, diagnostics: TensorRTDiagnostics, version: str, capability: str
) -> EngineError:
    """Return the error for a call that returned None, with the remedy for three known causes."""
    reason = diagnostics.explain()
    lines: Sequence[str] = [*diagnostics.errors, *diagnostics.warnings]
    text = " ".join(lines).lower()
    if "unsupported sm" in text or ("gpu sm" in text and "not supported" in text):
        return EngineError(
            f"{what}: TensorRT {version} does not support this GPU (compute capability"
            f" {capability}): install the TensorRT of the board's JetPack ({reason})"
        )
    if re.search(r"initialization failure with error:? 35\b", text):  # cudaErrorInsufficientDriver
        return EngineError(f"{what}: the NVIDIA driver is too old for TensorRT {version}: {reason}")
    if "out of memory" in text or "outofmemory" in text:
        return EngineError(f"{what}: out of memory: close other programs ({reason})")
    return EngineError(f"{what}: {reason}")


def _first_line(text: str) -> str:
    return (text.splitlines() or ["no reason given"])[0]
