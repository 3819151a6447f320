"""Noise recordings for training and for judging, never the same ones.

In: a folder with sound files at any depth. Files named as in ESC-50 and ESC-10 (Piczak 2015:
`FOLD-CLIP-TAKE-CLASS`) are split by their fold, others by their place in the sorted list.
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
QUIETEST_RMS = 1e-4
_ESC_NAME = re.compile(r"([1-5])-\d+-[A-Z]-\d+$")


def is_for_training(path: Path, place: int) -> bool:
    """ESC folds 1 and 2, or every second file of another collection."""
    match = _ESC_NAME.match(path.stem)
    return int(match[1]) in TRAINING_FOLDS if match else place % 2 == 0


def load_noises(root: Path, training: bool, sample_rate_hz: int) -> list[NDArray[np.float32]]:
    """The recordings (n_i,) of one half of the folder. One that cannot be read or is silent is
    logged and left out. Raises DatasetError when none is left."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES]
    audio_clips = []
    for place, path in enumerate(files):
        if is_for_training(path, place) is not training:
            continue
        try:
            audio = decode_audio(path, sample_rate_hz)[0]
        except DatasetError as error:
            log.warning("left out: %s", error)
            continue
        if np.sqrt(np.square(audio).mean()) > QUIETEST_RMS:
            audio_clips.append(audio)
    if not audio_clips:
        raise DatasetError(f"{root}: no readable noise ({', '.join(SUFFIXES)}) for this purpose")
    return audio_clips
