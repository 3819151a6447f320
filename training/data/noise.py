"""Noise recordings, split into one half for training and one for evaluation.

In: a folder with audio files at any depth. Out: the recordings of one half. Files named as in
ESC-50 and ESC-10 (Piczak 2015: `FOLD-CLIP-TAKE-CLASS`) are split by their fold, others by their
index in the sorted list.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .media import decode_audio

log = logging.getLogger(__name__)

SUFFIXES = (".ogg", ".wav", ".flac", ".mp3")
TRAINING_FOLDS = (1, 2)
TRAINING_SOUND_FOLDS = (1, 2, 3)
"""For voice activity, whose evaluation needs fewer sounds."""
QUIETEST_RMS = 1e-4
_ESC_NAME = re.compile(r"([1-5])-\d+-[A-Z]-\d+$")
_ESC10_NAME = re.compile(r"([1-5])-\d+-[A-Z](-\d+)?$")
"""The first release of ESC-10 names the class by the folder alone."""


def is_for_training(path: Path, index: int) -> bool:
    """Whether a file is in the training half: ESC folds 1 and 2, or every second other file."""
    match = _ESC_NAME.match(path.stem)
    return int(match[1]) in TRAINING_FOLDS if match else index % 2 == 0


def esc_fold(path: Path) -> int | None:
    """Return the fold in a file name of ESC-50 or of either release of ESC-10; None for others."""
    match = _ESC10_NAME.match(path.stem)
    return int(match[1]) if match else None


def load_noises(root: Path, training: bool, sample_rate_hz: int) -> list[NDArray[np.float32]]:
    """Load the recordings (n_i,) of one half of the folder. Silent files are skipped, unreadable
    ones logged and skipped. Raises DatasetError when none remains."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES]
    audio_clips = []
    for index, path in enumerate(files):
        if is_for_training(path, index) is not training:
            continue
        try:
            audio = decode_audio(path, sample_rate_hz)[0]
        except DatasetError as error:
            log.warning("skipped: %s", error)
            continue
        if np.sqrt(np.square(audio).mean()) > QUIETEST_RMS:
            audio_clips.append(audio)
    if not audio_clips:
        raise DatasetError(f"{root}: no readable noise ({', '.join(SUFFIXES)}) in this half")
    return audio_clips
