"""Decides for each window whether the voice network may run on it.

In: a window, and what the speech tracker says about its audio. Out: a `Speech`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ...engines.speech_tracker import ALL_SPEECH, NO_SPEECH, Speech, SpeechTracker
from ...kernels import LogMel
from ..faults import FaultLog
from ..messages import Float32, Window

log = logging.getLogger(__name__)

NARROW_BAND = "the audio is narrow-band (nothing above 4 kHz): the voice is not used"
NO_LIMIT_DB = -100.0
MIN_COLUMNS, SILENCE_DB = 50, -55.0
"""Without a speech tracker: half a second of audio that is no silence counts as speech."""


class VoiceGate:
    """Follows one stream of windows. For one thread; any thread may read `fault`."""

    def __init__(self, mel: LogMel, speech: SpeechTracker | None, min_level_db: float) -> None:
        """Speech whose loud parts stay under `min_level_db` does not count. Without `speech`, which
        only the null engine lacks, all audio but silence is speech."""
        self._mel = mel
        self._speech = speech
        self._min_level_db = min_level_db
        self._faults = FaultLog(log, "the audio is wide-band again")

    @property
    def fault(self) -> str:
        """Why the voice is not used although there is speech; "" for no reason."""
        return self._faults.fault

    def check(self, window: Window) -> Speech:
        """Return what the audio of `window` says about speech."""
        if window.end_column is None or window.audio_sample is None:
            return NO_SPEECH
        if self._speech is None:
            levels_db = self._mel.levels_db(window.end_column)
            heard = len(levels_db) >= MIN_COLUMNS and is_loud(levels_db, SILENCE_DB)
            return ALL_SPEECH if heard else NO_SPEECH
        speech = self._speech.find(window.audio_sample)
        self._faults.log_transition(NARROW_BAND if speech.narrow_band else "")
        if speech.is_usable and self._min_level_db > NO_LIMIT_DB:
            loud = is_loud(self._mel.levels_db(window.end_column), self._min_level_db)
            speech = replace(speech, is_usable=loud)
        return speech


def is_loud(levels_db: Float32, min_level_db: float) -> bool:
    """Return whether the loudest tenth of the columns reaches `min_level_db`."""
    if not len(levels_db):
        return False
    rank = len(levels_db) - 1 - len(levels_db) // 10
    return bool(np.partition(levels_db, rank)[rank] >= min_level_db)
