"""RAVDESS speech: clips found by the names its authors gave them, in any folder layout.

In: a root folder. Out: one `Clip` per file with the label and the actor read from the name,
`MM-VV-EE-II-SS-RR-AA.ext` (modality, vocal channel, emotion, intensity, statement, repetition,
actor; Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from . import DatasetError

EMOTIONS = {
    "01": "neutral",
    "02": "neutral",  # calm: the product has no such label
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
VOICE_SUFFIXES = (".wav", ".flac")
_NAME = re.compile(r"03-01-(0[1-8])-0[12]-0[12]-0[12]-(\d\d)$")

TEST_FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24))
"""Actors of each test fold. Actor 1 is for end-to-end tests and is in none."""
NUM_VALIDATION_ACTORS = 4


@dataclass(frozen=True, slots=True)
class Clip:
    """One audio-only take of spoken text."""

    path: Path
    label: str
    actor: int


def parse_voice_name(stem: str) -> tuple[str, int] | None:
    """File name without suffix -> (label, actor); None for song, video and foreign files."""
    match = _NAME.match(stem)
    return (EMOTIONS[match[1]], int(match[2])) if match else None


def find_voice_clips(root: Path, actors: Iterable[int] | None = None) -> list[Clip]:
    """All speech recordings under `root`, by name; a take stored twice counts once."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    wanted = None if actors is None else set(actors)
    clips: dict[str, Clip] = {}
    for path in sorted(root.rglob("03-01-*")):
        parsed = parse_voice_name(path.stem)
        if path.suffix.lower() not in VOICE_SUFFIXES or parsed is None:
            continue
        label, actor = parsed
        if wanted is None or actor in wanted:
            clips.setdefault(path.stem, Clip(path, label, actor))
    if not clips:
        raise DatasetError(
            f"{root}: no RAVDESS speech recording (03-01-....wav or .flac) of actors"
            f" {'all' if wanted is None else sorted(wanted)}"
        )
    return list(clips.values())


def split_actors(fold: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(training, validation, test) actors of a fold: nobody is on two sides.

    Validation takes the first four actors of the next fold.
    """
    test = TEST_FOLDS[fold]
    following = TEST_FOLDS[(fold + 1) % len(TEST_FOLDS)]
    validation = following[:NUM_VALIDATION_ACTORS]
    training = tuple(
        sorted(a for f in TEST_FOLDS for a in f if a not in test and a not in validation)
    )
    return training, validation, test


def load_voice(path: Path, sample_rate_hz: int) -> NDArray[np.float32]:
    """A recording as mono float32 (n,) at `sample_rate_hz`, whatever rate it was stored at."""
    parts: list[NDArray[np.int32]] = []
    try:
        with av.open(str(path)) as container:
            # Integers, as in the runtime: with floats FFmpeg makes two equal channels 1.41 times
            # too loud.
            resampler = av.AudioResampler("s32", "mono", sample_rate_hz)
            for frame in container.decode(audio=0):
                parts += [r.to_ndarray()[0] for r in resampler.resample(frame)]
            parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f"{path}: not a sound file that can be decoded: {error}") from error
    if not parts:
        raise DatasetError(f"{path}: holds no sound")
    return np.concatenate(parts).astype(np.float32) / np.float32(2**31)
