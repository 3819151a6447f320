"""The error of calibration: one line that names the file or value, and what is allowed."""

from __future__ import annotations

from .. import Error


class CalibrationError(Error, ValueError):
    """Samples, a network or a table cannot be used, or a file cannot be written."""
