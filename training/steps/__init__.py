"""The steps from a recipe to its bundle. `run.py` puts them together."""

from .run import STEPS, Outcome, run_recipe

__all__ = ["STEPS", "Outcome", "run_recipe"]
