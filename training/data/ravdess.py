"""RAVDESS speech: clips found by their published file names, in any folder layout.

In: a root folder. Out: one `Clip` per recording with the values of its name,
`MM-VV-EE-II-SS-RR-AA.ext` (modality, vocal channel, emotion, intensity, statement, repetition,
actor; Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391), and the folds over actors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...engines.bundles import LABELS
from ..errors import DatasetError

EMOTIONS8 = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
"""The published emotions, in the order of their codes 01 to 08."""
EMOTION_GROUPS = tuple(LABELS.index("neutral" if e == "calm" else e) for e in EMOTIONS8)
"""Index in `LABELS` of each of them; calm counts as neutral."""
VOICE_SUFFIXES = (".wav", ".flac")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov")
Modality = Literal["both", "video", "voice"]
MODALITIES: tuple[Modality, ...] = ("both", "video", "voice")
"""In the order of their codes 01 to 03."""
_NAME = re.compile(r"0([1-3])-(01-0([1-8])-0([12])-0([12])-0([12])-(\d\d))")

TEST_FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24))
"""Actors of each test fold. Actor 1 is in none: it is for end-to-end tests."""
NUM_VALIDATION_ACTORS = 4


@dataclass(frozen=True, slots=True)
class Clip:
    """One file of a speech recording."""

    path: Path
    emotion: str
    """One of `EMOTIONS8`."""
    actor: int
    intensity: int
    """1 normal, 2 strong."""
    statement: int
    repetition: int
    modality: Modality
    copies: tuple[Path, ...] = ()
    """Other files of the same recording, to use where `path` cannot be decoded. Archives unpacked
    twice or only in part leave such files."""

    @property
    def label(self) -> str:
        """One of the product's seven labels; calm counts as neutral."""
        return LABELS[EMOTION_GROUPS[EMOTIONS8.index(self.emotion)]]

    @property
    def recording_id(self) -> str:
        """The name without the modality; audio and video of one recording share it."""
        return self.path.stem[3:]


def parse_clip(path: Path) -> Clip | None:
    """Parse a file name; None for songs and other files. No file is opened."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    modality, _, *numbers = match.groups()
    emotion, intensity, statement, repetition, actor = map(int, numbers)
    return Clip(
        path,
        EMOTIONS8[emotion - 1],
        actor,
        intensity,
        statement,
        repetition,
        MODALITIES[int(modality) - 1],
    )


def find_voice_clips(root: Path, actors: Iterable[int] | None = None) -> list[Clip]:
    """Find all speech recordings under `root`, by path; a recording stored twice counts once."""
    wanted = None if actors is None else set(actors)
    clips: dict[str, Clip] = {}
    for clip in _find_clips(root, "03", VOICE_SUFFIXES, wanted):
        _add(clips, clip)
    return _require(clips, root, "speech recording (03-01-....wav or .flac)", wanted)


def find_video_clips(root: Path, actors: Iterable[int] | None = None) -> list[Clip]:
    """Find all speech videos under `root`; of a recording with audio (01-) and without (02-), the
    one with audio."""
    wanted = None if actors is None else set(actors)
    clips: dict[str, Clip] = {}
    for code in ("01", "02"):
        for clip in _find_clips(root, code, VIDEO_SUFFIXES, wanted):
            _add(clips, clip)
    return _require(clips, root, "speech video (01-01-....mp4 or 02-01-....mp4)", wanted)


def _find_clips(
    root: Path, code: str, suffixes: tuple[str, ...], wanted: set[int] | None
) -> Iterable[Clip]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    for path in sorted(root.rglob(f"{code}-01-*")):
        clip = parse_clip(path) if path.suffix.lower() in suffixes else None
        if clip is not None and (wanted is None or clip.actor in wanted):
            yield clip


def _add(clips: dict[str, Clip], clip: Clip) -> None:
    """Add a recording, or a copy of one."""
    first = clips.setdefault(clip.recording_id, clip)
    if first is not clip:
        clips[clip.recording_id] = replace(first, copies=(*first.copies, clip.path))


def _require(clips: dict[str, Clip], root: Path, noun: str, wanted: set[int] | None) -> list[Clip]:
    if not clips:
        actors = "all" if wanted is None else sorted(wanted)
        raise DatasetError(f"{root}: no RAVDESS {noun} of actors {actors}")
    return list(clips.values())


def split_actors(fold: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the training, validation and test actors of a fold, which are disjoint.

    The validation actors are the first four test actors of the next fold.
    """
    test = TEST_FOLDS[fold]
    following = TEST_FOLDS[(fold + 1) % len(TEST_FOLDS)]
    validation = following[:NUM_VALIDATION_ACTORS]
    training = tuple(
        sorted(a for f in TEST_FOLDS for a in f if a not in test and a not in validation)
    )
    return training, validation, test
