"""What a corpus must have before anything is trained on it.

In: people, labels and splits of one modality. Out: nothing, or a DatasetError that names what is
missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DatasetError
from .folder import SPLITS
from .folds import RAVDESS, Fold, make_folds, split_of_actor
from .media_files import MediaFile

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


def roll_files(noun: str, files: Sequence[MediaFile]) -> Roll:
    """Return the roll of files that are not decoded yet."""
    return Roll(
        noun,
        [file.label for file in files],
        [file.person for file in files],
        [file.split for file in files],
    )


def join_rolls(noun: str, rolls: Sequence[Roll]) -> Roll:
    """Join the rolls of several data sets."""
    return Roll(
        noun,
        [label for roll in rolls for label in roll.labels],
        [person for roll in rolls for person in roll.people],
        [split for roll in rolls for split in roll.splits],
    )


def check_rolls(rolls: Sequence[Roll], labels: Sequence[str], protocol: str) -> tuple[Fold, ...]:
    """Check the people and labels of all modalities -> the folds of the protocol `folds`."""
    for roll in rolls:
        if not roll.people:
            raise DatasetError(f"the data has no {roll.noun}: {roll.noun}: null trains without")
    check_people(rolls)
    folds: tuple[Fold, ...] = ()
    if protocol == "folds":
        folds = make_folds({person for roll in rolls for person in roll.people})
    for roll in rolls:
        check_roll(roll, labels, folds, 0)
    return folds


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


def describe_roll(roll: Roll, labels: Sequence[str]) -> list[str]:
    """Return the counts of a modality as lines."""
    splits, counts = Counter(roll.splits), Counter(roll.labels)
    people = len({person for person in roll.people if person})
    shares = ", ".join(f"{split} {splits[split]}" for split in SPLITS)
    named = [f"{label} {counts[index]}" for index, label in enumerate(labels)]
    if counts[-1]:
        named.append(f"without a majority {counts[-1]}")
    return [
        f"{roll.noun}: {len(roll.labels)} examples of {people or 'unknown'} people: {shares}",
        f"  {', '.join(named)}",
    ]


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
