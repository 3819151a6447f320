"""Errors of settings, files and data, with messages of one line.

The module does not import torch, so that the command line can catch them without loading it.
"""

from __future__ import annotations

from .. import Error


class DatasetError(Error, ValueError):
    """A data set cannot be read; the message names the file."""


class TrainingError(Error, RuntimeError):
    """A run cannot start or continue."""


class DivergedError(TrainingError):
    """The loss or the gradient is not finite."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written or read, or belongs to another run."""
