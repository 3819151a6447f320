"""A first recipe for the data in a folder.

In: a folder. Out: a `Draft`: the recipe, and what was found, left out or is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...engines.bundles import LABELS
from ..errors import DatasetError
from ..recipe_file import DataSection, PeopleSection, Recipe, check_labels
from .corpus import FACE_SEED, list_corpus
from .corpus_checks import Roll, check_rolls, describe_roll, join_rolls, roll_files
from .discovery import find_data
from .ferplus import OPTIONAL_VOTES, find_vote_labels, hold_out, label_from_votes
from .ferplus_files import VOTES, find_layout, has_split
from .folder import has_split_column, read_label_names
from .folds import make_folds
from .label_names import BROADER, LabelNames, canonical_name
from .ravdess import EMOTIONS8

MIN_BATCHES = 4
"""Batches that a small training set is divided into."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe, and lines that describe its data."""

    recipe: Recipe
    lines: tuple[str, ...]
    problem: str
    """What is missing before the recipe can be trained; "" for nothing."""


def draft_recipe(root: Path) -> Draft:
    """Look at the data in `root`, and choose labels, people and networks. Raises DatasetError when
    there is no data set."""
    found = find_data(root)
    names = [_list_names(section) for section in found.sections]
    labels = _order_labels(names)
    check_labels(labels, str(root))
    recipe = Recipe(
        name=(root.resolve().name or "emotion")[:64],
        labels=labels,
        data=found.sections,
        noise=found.noise,
    )
    drafts = [_complete(recipe, names, protocol) for protocol in _order_protocols(found.sections)]
    # Of two protocols that can be trained, the one that keeps more labels, else the first.
    draft = max(drafts, key=lambda each: (not each.problem, len(each.recipe.labels)))
    others = [f"{number} {kind}s" for kind, number in sorted(found.others.items())]
    lines = [
        *(f"{section.kind}: {section.root}" for section in found.sections),
        *([f"noise: {found.noise}"] if found.noise else []),
        *([f"in no data set: {', '.join(others)}"] if others else []),
        *draft.lines,
    ]
    return Draft(draft.recipe, tuple(lines), draft.problem)


def _list_names(section: DataSection) -> list[str]:
    """Return the data's own names of labels."""
    if section.kind == "folder":
        return read_label_names(Path(section.root))
    if section.kind == "ferplus":
        return [vote for vote in VOTES if vote not in OPTIONAL_VOTES]
    return list(EMOTIONS8)


def _order_labels(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a label for all names of one emotion, the product's labels first."""
    found = {canonical_name(name) for each in names for name in each}
    found -= {name for name, broader in BROADER.items() if broader in found}
    return (
        *(label for label in LABELS if label in found),
        *sorted(found - set(LABELS)),
    )


def _order_protocols(sections: Sequence[DataSection]) -> list[str]:
    """Return the protocols to try: folds for RAVDESS, the splits of a manifest that has them."""
    folders = [Path(section.root) for section in sections if section.kind == "folder"]
    if any(has_split_column(folder) for folder in folders):
        return ["split"]
    if any(section.kind == "ravdess" for section in sections):
        return ["folds", "split"]
    return ["split", "folds"] if folders else ["split"]


def _complete(recipe: Recipe, names: Sequence[Sequence[str]], protocol: str) -> Draft:
    """Choose networks, labels and sizes of batches under a protocol."""
    people = msgspec.convert({"protocol": protocol}, PeopleSection)
    recipe = _map_names(msgspec.structs.replace(recipe, people=people), names)
    rolls, notes = _call_rolls(recipe)
    usable = _find_usable_labels(recipe, rolls)
    left_out = [label for label in recipe.labels if label not in usable]
    if len(usable) >= 2 and left_out:
        recipe = _map_names(msgspec.structs.replace(recipe, labels=usable), names)
        rolls, notes = _call_rolls(recipe)
    else:
        left_out = []
    problem = ""
    try:
        check_rolls(rolls, recipe.labels, protocol)
    except DatasetError as error:
        problem = str(error)
    recipe = _fit_networks(recipe, rolls)
    lines = [line for roll in rolls for line in describe_roll(roll, recipe.labels)]
    lines += [*notes, f"people: {protocol}"]
    if left_out:
        reason = "not in train and valid of every network's data"
        lines.append(f"labels left out: {', '.join(left_out)} ({reason})")
    return Draft(recipe, tuple(lines), problem)


def _map_names(recipe: Recipe, names: Sequence[Sequence[str]]) -> Recipe:
    """Leave out the names that no label of the recipe stands for."""
    known = LabelNames(recipe.labels)
    data = tuple(
        msgspec.structs.replace(
            section, map={name: "" for name in each if known.find(name) is None}
        )
        for section, each in zip(recipe.data, names, strict=True)
    )
    return msgspec.structs.replace(recipe, data=data)


def _call_rolls(recipe: Recipe) -> tuple[list[Roll], list[str]]:
    """Return the roll of each modality that has data, from names and tables alone, and notes."""
    listing = list_corpus(recipe)
    ferplus = [
        _call_ferplus(Path(section.root), LabelNames(recipe.labels, section.map))
        for section in recipe.data
        if section.kind == "ferplus"
    ]
    rolls = [
        join_rolls("face", [roll_files("face", listing.faces), *ferplus]),
        roll_files("voice", listing.voices),
    ]
    return [roll for roll in rolls if roll.labels], listing.skipped + listing.notes


def _call_ferplus(root: Path, names: LabelNames) -> Roll:
    """Return the roll of FER+ by its votes."""
    vote_labels = find_vote_labels(names)
    labels: list[int] = []
    splits: list[str] = []
    for split in ("train", "valid"):
        if split == "valid" and not has_split(root, split):
            continue
        voted = [
            label_from_votes(row.counts, vote_labels, len(names.labels))
            for row in find_layout(root, split).read()
        ]
        found = [label for distribution, label in voted if distribution is not None]
        own = ["train" if split == "train" else "test"] * len(found)
        if split == "train":
            for index in hold_out(len(found), FACE_SEED)[1]:
                own[index] = "valid"
        labels += found
        splits += own
    return Roll("face", labels, [""] * len(labels), splits)


def _list_views(recipe: Recipe, rolls: Sequence[Roll]) -> list[list[Sequence[str]]]:
    """Return the splits of each modality: one of them, or those of each fold."""
    if recipe.people.protocol == "split":
        return [[roll.splits] for roll in rolls]
    folds = make_folds({person for roll in rolls for person in roll.people})
    return [[fold.divide(roll.people, roll.splits) for fold in folds] for roll in rolls]


def _find_usable_labels(recipe: Recipe, rolls: Sequence[Roll]) -> tuple[str, ...]:
    """Return the labels that every modality has in `train` and `valid`."""
    try:
        views = _list_views(recipe, rolls)
    except DatasetError:  # too few people
        return ()
    usable = set(range(len(recipe.labels)))
    for roll, each in zip(rolls, views, strict=True):
        for splits in each:
            for split in ("train", "valid"):
                usable &= {
                    label for label, own in zip(roll.labels, splits, strict=True) if own == split
                }
    return tuple(recipe.labels[index] for index in sorted(usable))


def _fit_networks(recipe: Recipe, rolls: Sequence[Roll]) -> Recipe:
    """Leave out the networks without data, and fit the batches to the training sets."""
    sections = {"face": recipe.face, "voice": recipe.voice}
    nouns = {roll.noun for roll in rolls}
    try:
        views = _list_views(recipe, rolls)
    except DatasetError:
        views = [[roll.splits] for roll in rolls]
    for roll, each in zip(rolls, views, strict=True):
        section = sections[roll.noun]
        assert section is not None
        num_training = min(list(splits).count("train") for splits in each)
        batch_size = section.learning.batch_size
        while batch_size > 2 and batch_size * MIN_BATCHES > num_training:
            batch_size //= 2
        learning = msgspec.structs.replace(section.learning, batch_size=batch_size)
        sections[roll.noun] = msgspec.structs.replace(section, learning=learning)
    return msgspec.structs.replace(
        recipe,
        face=sections["face"] if "face" in nouns else None,
        voice=sections["voice"] if "voice" in nouns else None,
        fusion=recipe.fusion if len(nouns) == 2 else None,
    )
