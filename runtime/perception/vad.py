"""Voice activity detection: is a window of audio loud enough, and not steady?"""

from __future__ import annotations

import numpy as np

from ..messages import Float32

MIN_COLUMNS = 50
"""Half a second: a shorter window is never speech."""
MIN_DYNAMIC_RANGE_DB = 10.0
"""Minimum level difference of loud and quiet columns. Speech with its pauses exceeds it by far;
fans, rain and hum do not reach it."""


def is_speech_like(levels_db: Float32, min_level_db: float) -> bool:
    """Return whether a window is like speech, from the level of each column in dB of full scale.

    The loudest tenth of the columns must reach `min_level_db` and exceed the quietest tenth by
    `MIN_DYNAMIC_RANGE_DB`.
    """
    if len(levels_db) < MIN_COLUMNS:
        return False
    count = len(levels_db)
    ranked = np.sort(levels_db)
    quiet, loud = ranked[count // 10], ranked[count - 1 - count // 10]
    return bool(loud >= min_level_db and loud - quiet >= MIN_DYNAMIC_RANGE_DB)
