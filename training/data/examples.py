"""What a recipe's networks are trained and scored on.

Out: `FaceExamples`, `VoiceExamples`, and the `Corpus` that holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from .action_units import ActionUnits
from .folds import Fold


@dataclass(frozen=True, slots=True)
class FaceExamples:
    """N faces."""

    images: NDArray[np.uint8]
    """(N, P, P), grey. P is 48 where all faces to train and validate on are of FER+, else 112."""
    votes: NDArray[np.float32]
    """(N, L), distribution over the recipe's labels."""
    labels: NDArray[np.int64]
    """(N,), index in the recipe's labels; -1 without a majority of the votes."""
    people: tuple[str, ...]
    """Such as "ravdess:01" or "mine:ann"; "" where nobody knows (FER+)."""
    splits: tuple[str, ...]
    """train, valid or test."""
    recordings: tuple[str, ...]
    """Recording that the face is a frame of, as in `VoiceExamples`; "" for a picture."""

    def select(self, mask: NDArray[np.bool_]) -> FaceExamples:
        """Return the faces where `mask` (N,) is true."""
        if mask.all():
            return self
        kept = mask.tolist()
        return FaceExamples(
            self.images[mask],
            self.votes[mask],
            self.labels[mask],
            tuple(compress(self.people, kept)),
            tuple(compress(self.splits, kept)),
            tuple(compress(self.recordings, kept)),
        )

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Return the mask (N,) of a split."""
        return np.array(self.splits) == split


@dataclass(frozen=True, slots=True)
class VoiceExamples:
    """N recordings."""

    audio_clips: list[NDArray[np.float32]]
    """Mono (n_i,) each, in -1..1, at the rate of the recipe's `mel`."""
    labels: NDArray[np.int64]
    """(N,), index in the recipe's labels."""
    people: tuple[str, ...]
    splits: tuple[str, ...]
    recordings: tuple[str, ...]
    """Each once, such as "ravdess:01-03-01-02-01-07" or "mine:films/1.mp4"."""
    fine_labels: NDArray[np.int64]
    """(N,), index in `fine_names`."""
    fine_names: tuple[str, ...]
    """The data's own names, such as the eight of RAVDESS; the recipe's labels without
    `voice.fine_labels`."""
    groups: tuple[int, ...]
    """Recipe label of each fine name. Each label has at least one."""

    def select(self, mask: NDArray[np.bool_]) -> VoiceExamples:
        """Return the recordings where `mask` (N,) is true."""
        if mask.all():
            return self
        kept = mask.tolist()
        return VoiceExamples(
            list(compress(self.audio_clips, kept)),
            self.labels[mask],
            tuple(compress(self.people, kept)),
            tuple(compress(self.splits, kept)),
            tuple(compress(self.recordings, kept)),
            self.fine_labels[mask],
            self.fine_names,
            self.groups,
        )

    def in_split(self, split: str) -> NDArray[np.bool_]:
        """Return the mask (N,) of a split."""
        return np.array(self.splits) == split


@dataclass(frozen=True, slots=True)
class Corpus:
    """All data of a recipe, decoded, merged and checked."""

    labels: tuple[str, ...]
    faces: FaceExamples | None
    voices: VoiceExamples | None
    skipped: Sequence[str] = ()
    """One line for each file or name that was left out."""
    units: ActionUnits | None = None
    """Stand for the face of RAVDESS recordings in the folds; they never ship."""
    folds: tuple[Fold, ...] = ()
    """With the protocol `folds`: see `select_fold`. The splits are then those of the networks that
    ship: `train` has the people of all folds, and `test` those of none."""


def select_fold(corpus: Corpus, number: int) -> Corpus:
    """Return the corpus with the splits of a fold, without the people who are in none.

    Faces of nobody known keep their split: no fold tests on them.
    """
    fold = corpus.folds[number]
    faces, voices = corpus.faces, corpus.voices
    if faces is not None:
        faces = replace(faces, splits=fold.divide(faces.people, faces.splits))
        faces = faces.select(~faces.in_split(""))
    if voices is not None:
        voices = replace(voices, splits=fold.divide(voices.people, voices.splits))
        voices = voices.select(~voices.in_split(""))
    return replace(corpus, faces=faces, voices=voices)
