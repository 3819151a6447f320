"""Scores a bundle on a data set: its examples, the networks' outputs, corruptions and the report.

`evaluate.py` puts these together.
"""

from .corpus_examples import list_face_examples, list_voice_examples
from .evaluate import choose_level, evaluate_bundle, evaluate_examples, score_examples
from .examples import find_examples
from .known_people import note_people
from .material import Example, ExampleMedia, whole_face
from .networks import open_networks
from .robustness import CLEAN
from .selection import ExampleSet, Selection

__all__ = [
    "CLEAN",
    "Example",
    "ExampleMedia",
    "ExampleSet",
    "Selection",
    "choose_level",
    "evaluate_bundle",
    "evaluate_examples",
    "find_examples",
    "list_face_examples",
    "list_voice_examples",
    "note_people",
    "open_networks",
    "score_examples",
    "whole_face",
]
