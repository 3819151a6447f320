"""Whether a window of sound holds something like speech: loud enough, and not steady."""

from __future__ import annotations

import numpy as np

from ..messages import Float32

MIN_COLUMNS = 50
"""Half a second: less says nothing."""
MIN_DYNAMIC_RANGE_DB = 10.0
"""Speech rises and falls by far more between sounds and pauses; fans, rain and hum do not."""


def is_speech_like(levels_db: Float32, min_level_db: float) -> bool:
    """`levels_db`: sound level of each column of the window, dB of full scale.

    The loud tenth of the columns must exceed `min_level_db` and stand out from the quiet tenth.
    """
    if len(levels_db) < MIN_COLUMNS:
        return False
    count = len(levels_db)
    ranked = np.sort(levels_db)
    quiet, loud = ranked[count // 10], ranked[count - 1 - count // 10]
    return bool(loud >= min_level_db and loud - quiet >= MIN_DYNAMIC_RANGE_DB)
