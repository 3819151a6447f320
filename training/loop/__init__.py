"""The training loop of every network: resumable to the bit, on one process or many."""

from .checkpoint import load_weights, read_curves, read_description, save_weights
from .distributed import read_process_group
from .options import Batch, RunOptions, add_recipe_identity
from .schedule import FitRecipe
from .trainer import fit
from .validation import Predictions

__all__ = [
    "Batch",
    "FitRecipe",
    "Predictions",
    "RunOptions",
    "add_recipe_identity",
    "fit",
    "load_weights",
    "read_curves",
    "read_description",
    "read_process_group",
    "save_weights",
]
