"""The training loop of every network: resumable to the bit, on one process or many."""

from .checkpoint import load_weights, read_curves, read_description, save_weights
from .distributed import read_process_group
from .schedule import FitRecipe
from .trainer import Batch, RunOptions, add_recipe_identity, fit

__all__ = [
    "Batch",
    "FitRecipe",
    "RunOptions",
    "add_recipe_identity",
    "fit",
    "load_weights",
    "read_curves",
    "read_description",
    "read_process_group",
    "save_weights",
]
