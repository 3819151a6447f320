"""Quality levels: their networks, their cost on this machine, and the controller that switches.

A bundle describes levels. `open_levels` opens their networks, `profile_levels` measures their
costs, and `QualityController` chooses the level for the next frames.
"""

from .controller import LevelCost, LevelSwitch, QualityController
from .levels import RunLevel, drop_unknown_level, open_levels
from .profiling import ProfileSetup, describe_setup, profile_levels, remeasure_levels

__all__ = [
    "LevelCost",
    "LevelSwitch",
    "ProfileSetup",
    "QualityController",
    "RunLevel",
    "describe_setup",
    "drop_unknown_level",
    "open_levels",
    "profile_levels",
    "remeasure_levels",
]
