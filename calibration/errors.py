"""What can go wrong in calibration: one line that names the file or value and what is allowed."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Samples, a network or a variant that must not be used."""
