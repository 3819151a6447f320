"""Decides for each window whether the voice network may run on it.

In: a window, and what the speech tracker says about its audio. Out: a `Speech`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ...engines.speech_tracker import NO_SPEECH, Speech, SpeechTracker
from ...kernels import LogMel
from ..faults import FaultLog
from ..messages import Float32, Window
from .vad import is_speech_like

log = logging.getLogger(__name__)

NARROW_BAND = "the audio is narrow-band (nothing above 4 kHz): the voice is not used"
NO_LIMIT_DB = -100.0


class VoiceGate:
    """Follows one stream of windows. For one thread; any thread may read `fault`."""

    def __init__(self, mel: LogMel, speech: SpeechTracker | None, min_level_db: float) -> None:
        """Speech whose loud parts stay under `min_level_db` does not count."""
        self._mel = mel
        self._speech = speech
        self._min_level_db = min_level_db
        self._faults = FaultLog(log, "the audio is wide-band again")
        self._newest = NO_SPEECH

    @property
    def fault(self) -> str:
        """Why the voice is not used although there is speech; "" for no reason."""
        return self._faults.fault

    def check(self, window: Window) -> Speech:
        """Return what the audio of `window` says about speech."""
        if window.end_column is None or window.audio_sample is None:
            self._newest = NO_SPEECH
        elif self._speech is not None:
            speech = self._speech.find(window.audio_sample)
            self._faults.log_transition(NARROW_BAND if speech.narrow_band else "")
            if speech.is_usable and self._min_level_db > NO_LIMIT_DB:
                loud = is_loud(self._mel.levels_db(window.end_column), self._min_level_db)
                speech = replace(speech, is_usable=loud)
            self._newest = speech
        elif window.voice_due:
            levels_db = self._mel.levels_db(window.end_column)
            like_speech = is_speech_like(levels_db, max(self._min_level_db, -55.0))
            self._newest = Speech(float(like_speech), like_speech)
        return self._newest


def is_loud(levels_db: Float32, min_level_db: float) -> bool:
    """Return whether the loudest tenth of the columns reaches `min_level_db`."""
    if not len(levels_db):
        return False
    rank = len(levels_db) - 1 - len(levels_db) // 10
    return bool(np.partition(levels_db, rank)[rank] >= min_level_db)
