"""Data sets of made-up people, to try a training without real ones."""

from .data_sets import write_folder, write_ravdess

__all__ = ["write_folder", "write_ravdess"]
