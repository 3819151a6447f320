"""Data sets: each module reads one, in the layout its authors publish it in."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set that cannot be read; one line that names the file."""
