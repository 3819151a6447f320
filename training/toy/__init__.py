"""Data sets of made-up people, to try a training without real ones."""

from .data_sets import FILM, write_folder, write_ravdess
from .recipe import make_toy_recipe, shrink_face, shrink_voice

__all__ = [
    "FILM",
    "make_toy_recipe",
    "shrink_face",
    "shrink_voice",
    "write_folder",
    "write_ravdess",
]
