"""What a user chooses about calibration and its accuracy gate.

The module imports no library, so that `--help` need not load them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLAIN_METHODS = ("mse", "percentile", "entropy", "minmax")
"""Methods that use a tensor's histogram alone."""
METHODS = ("auto", *PLAIN_METHODS, "answer")
MIN_AGREEMENT = 0.985
"""Smallest agreement with FP32 on the calibration samples. They are harder than live input: most
are corrupted, and rare labels are as frequent as others."""


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """What a user chooses about calibration."""

    method: str = "auto"
    """One of `METHODS`. "auto" uses the plain method with the least divergence, and "answer" where
    even that agrees too little."""
    min_agreement: float = MIN_AGREEMENT
    folder: Path | None = None
    """Folder of the calibration tables; None to calibrate anew each time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a lower precision may lose against FP32."""

    accuracy_drop: float = 0.005
    agreement: float = 0.98
    """Smallest share of examples with the same predicted label."""
    ece_rise: float = 0.02
    bytes: int = 8_000_000
    """Largest total of the files that a run at INT8 reads."""
