"""Folds over people: who is trained on, validated on and tested, so that nobody is on two sides.

In: the people of a corpus. Out: `Fold`s. The actors of RAVDESS have fixed folds; others are
dealt out by a hash of their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..errors import DatasetError
from .people import name_actor
from .ravdess import TEST_FOLDS, split_actors

NUM_FOLDS = len(TEST_FOLDS)
MIN_PEOPLE = 3
"""One each to train on, validate on and test."""
RAVDESS = "ravdess:"
"""Prefix of the actors' names."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of a cross-validation."""

    splits: Mapping[str, str]
    """Person -> train, valid or test."""

    def people(self, split: str) -> tuple[str, ...]:
        """Return the sorted people of a split."""
        return tuple(sorted(person for person, own in self.splits.items() if own == split))

    def divide(self, people: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
        """Return the split of each example: "" for people who are not in the fold, and the
        example's own of `splits` where nobody knows the person."""
        return tuple(
            self.splits.get(person, "") if person else split
            for person, split in zip(people, splits, strict=True)
        )


def split_of_actor(fold: int) -> dict[str, str]:
    """Return the split of each actor in a fold; the actors of no fold are absent."""
    parts = zip(("train", "valid", "test"), split_actors(fold), strict=True)
    return {name_actor(actor): split for split, actors in parts for actor in actors}


def make_folds(people: Collection[str]) -> tuple[Fold, ...]:
    """Divide people into folds. Raises DatasetError for fewer than three.

    The actors of RAVDESS are in their published folds, and those of none in no fold. Others are
    sorted by a hash of their names and dealt out; the next fold's test people are validated on.
    """
    known = {person for person in people if person}
    actors = {person for person in known if person.startswith(RAVDESS)}
    others = sorted(known - actors, key=_hash_name)
    num_folds = NUM_FOLDS if actors else min(NUM_FOLDS, len(others))
    if num_folds < MIN_PEOPLE:
        raise DatasetError(
            f"people.protocol is folds, and there are only {len(others)} people, wanted:"
            f" {MIN_PEOPLE} or more"
        )
    folds = []
    for number in range(num_folds):
        splits = dict.fromkeys(others, "train")
        splits |= dict.fromkeys(others[(number + 1) % num_folds :: num_folds], "valid")
        splits |= dict.fromkeys(others[number::num_folds], "test")
        if actors:
            own = split_of_actor(number)
            splits |= {person: own[person] for person in sorted(actors) if person in own}
        folds.append(Fold(splits))
    return tuple(folds)


def _hash_name(person: str) -> bytes:
    return hashlib.blake2b(person.encode(errors="surrogateescape"), digest_size=8).digest()
