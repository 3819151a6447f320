"""What can go wrong in a training run: errors of the user's settings, files or data, one line each.

Without torch, so that the command line can name them before anything heavy is loaded.
"""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set that cannot be read; one line that names the file."""


class TrainingError(RuntimeError):
    """A run that cannot start or go on."""


class DivergedError(TrainingError):
    """The loss is no longer a number."""


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, cannot be read or belongs to another run."""
