"""What a corpus must have before anything is trained on it.

In: people, labels and splits of one modality. Out: nothing, or a DatasetError that names what is
missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from .folds import RAVDESS, Fold, split_of_actor

PURPOSES = {"train": "training", "valid": "validation"}
MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class Roll:
    """Who shows what in one modality."""

    noun: str
    """Such as "face"."""
    labels: Sequence[int]
    """Index of each example's label, -1 for none."""
    people: Sequence[str]
    splits: Sequence[str]


def check_people(rolls: Iterable[Roll]) -> None:
    """Refuse a person in two splits."""
    split_of: dict[str, str] = {}
    for roll in rolls:
        for person, split in zip(roll.people, roll.splits, strict=True):
            if person and split_of.setdefault(person, split) != split:
                raise DatasetError(
                    f"{person} is in the splits {split_of[person]} and {split}, allowed: one split"
                    " per person"
                )


def check_roll(roll: Roll, labels: Sequence[str], folds: Sequence[Fold], batch_size: int) -> None:
    """Refuse a corpus, or a fold of it, that lacks people or a label to train or validate on, or
    has fewer training examples than a batch.

    With folds the networks that ship are trained without validation, so only `train` is checked.
    """
    if not folds:
        _check_split(roll, roll.splits, "train", labels, batch_size, "")
        _check_split(roll, roll.splits, "valid", labels, 0, "")
        return
    _check_split(roll, roll.splits, "train", labels, batch_size, "")
    for number, fold in enumerate(folds):
        splits = fold.divide(roll.people, roll.splits)
        for split, least in (("train", batch_size), ("valid", 0)):
            _check_split(roll, splits, split, labels, least, f" of fold {number}")
        if "test" not in splits:
            raise DatasetError(f"fold {number} has no {roll.noun} for test{_describe(roll)}")


def _check_split(
    roll: Roll,
    splits: Sequence[str],
    split: str,
    labels: Sequence[str],
    batch_size: int,
    where: str,
) -> None:
    chosen = np.array(roll.labels, np.int64)[np.array(splits) == split]
    purpose = PURPOSES[split]
    if not len(chosen):
        raise DatasetError(
            f"no {roll.noun} for {purpose}: the split {split}{where} has none"
            f"{_describe(roll)}{_describe_wanted(roll, split, where)}"
        )
    absent = [label for index, label in enumerate(labels) if index not in chosen]
    if absent:
        raise DatasetError(
            f"no {roll.noun} for {purpose} has the label {', '.join(absent)}: the split"
            f" {split}{where} lacks it, allowed: every label in train and valid"
        )
    if len(chosen) < batch_size:
        raise DatasetError(
            f"{len(chosen)} {roll.noun}s for {purpose}{where}, and {roll.noun}.learning.batch_size"
            f" is {batch_size}: allowed: at most {len(chosen)}"
        )


def _describe(roll: Roll) -> str:
    """Return the people of a modality as text."""
    people = sorted({person for person in roll.people if person})
    if not people:
        return ""
    named = ", ".join(people[:MAX_NAMED])
    more = f" and {len(people) - MAX_NAMED} more" if len(people) > MAX_NAMED else ""
    return f", and there are only {named}{more}"


def _describe_wanted(roll: Roll, split: str, where: str) -> str:
    """Return the actors of RAVDESS that a split takes."""
    if not any(person.startswith(RAVDESS) for person in roll.people):
        return ""
    fold = int(where.rpartition(" ")[2]) if where else 0
    wanted = [person for person, own in split_of_actor(fold).items() if own == split]
    return f"; of RAVDESS it takes {', '.join(wanted)}"
