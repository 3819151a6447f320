"""Quality levels: which there are, what each costs here, and which one runs."""

from .controller import LevelCost, QualityController
from .levels import RunLevel, drop_unknown_level, open_levels
from .profiling import ProfileSetup, describe_setup, profile_levels, remeasure_levels

__all__ = [
    "LevelCost",
    "ProfileSetup",
    "QualityController",
    "RunLevel",
    "describe_setup",
    "drop_unknown_level",
    "open_levels",
    "profile_levels",
    "remeasure_levels",
]
