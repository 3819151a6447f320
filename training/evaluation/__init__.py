"""Scores a bundle on a data set: its examples, the networks' outputs, corruptions and the report.

`evaluate.py` puts these together.
"""

from .evaluate import choose_level, evaluate_bundle, evaluate_examples
from .examples import find_examples
from .networks import open_networks
from .robustness import CLEAN
from .selection import Selection

__all__ = [
    "CLEAN",
    "Selection",
    "choose_level",
    "evaluate_bundle",
    "evaluate_examples",
    "find_examples",
    "open_networks",
]
