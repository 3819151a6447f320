"""Files of a recipe's data sets: listed first, then decoded.

In: folders with a manifest, RAVDESS, FER+. Out: `MediaFile`s, each with label, person, split and
recording, and the arrays of those that can be decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from .cache import FeatureCache
from .decode import Recipe, Tally, decode_each
from .folder import SPLITS, FolderItem, Kind, drop_copies, read_manifest
from .label_names import LabelNames


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file, for one modality."""

    path: Path
    kind: Kind
    label: int
    """Index in the recipe's labels."""
    name: str
    """The data's own name of the label."""
    person: str
    split: str
    recording: str
    """Recording that the file is; "" for a picture."""
    copies: tuple[Path, ...] = ()
    """Files to decode where `path` cannot be."""

    @property
    def category(self) -> tuple[int, str]:
        """Label and name."""
        return self.label, self.name


@dataclass(slots=True)
class Listing:
    """The files of one or more data sets."""

    faces: list[MediaFile] = field(default_factory=list)
    voices: list[MediaFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """One line for each file that is left out."""
    notes: list[str] = field(default_factory=list)
    """What else there is to know of the data."""

    def extend(self, other: Listing) -> None:
        """Add the files of another data set."""
        self.faces += other.faces
        self.voices += other.voices
        self.skipped += other.skipped
        self.notes += other.notes


def list_folder(root: Path, prefix: str, names: LabelNames, by_fold: bool) -> Listing:
    """List a folder with a manifest: pictures have a face, sounds a voice, videos both.

    `prefix` is the data set's part of the people's names. With `by_fold` everybody is in the split
    train, whatever the manifest says: folds divide the people. Raises DatasetError.
    """
    items, copies = drop_copies(read_manifest(root, names))
    listing = Listing(skipped=copies)
    for item in items:
        file = _describe(item, root, prefix, names)
        if by_fold:
            file = replace(file, split="train")
        if item.kind != "sound":
            listing.faces.append(file)
        if item.kind != "picture":
            listing.voices.append(file)
    return listing


def _describe(item: FolderItem, root: Path, prefix: str, names: LabelNames) -> MediaFile:
    name = item.path.relative_to(root).as_posix()
    return MediaFile(
        item.path,
        item.kind,
        names.labels.index(item.label),
        item.name,
        f"{prefix}:{item.subject}",
        item.split,
        "" if item.kind == "picture" else f"{prefix}:{name}",
    )


def decode_files(
    files: Sequence[MediaFile],
    recipe: Recipe,
    cache: FeatureCache | None,
    progress: tqdm[Any] | None = None,
) -> tuple[list[tuple[MediaFile, NDArray[Any]]], list[str]]:
    """Decode files -> those that can be used, in their order, with their arrays; one line for each
    of the others.

    Of files with the same content one stays, so that no content is both trained on and scored:
    that of the latest of train, valid and test, then the first. Within a person's files of a split
    the same content may have two labels.
    """
    tally = Tally()
    ordered = sorted(files, key=lambda file: -SPLITS.index(file.split))
    first: dict[bytes, MediaFile] = {}
    arrays: dict[int, NDArray[Any]] = {}
    for file, array in decode_each(ordered, recipe, cache, tally, progress):
        original = first.setdefault(hashlib.blake2b(array.tobytes()).digest(), file)
        if (original.person, original.split) != (file.person, file.split):
            tally.duplicates.append(f"{file.path}: same content as {original.path}")
        else:
            arrays[id(file)] = array
    usable = [(file, arrays[id(file)]) for file in files if id(file) in arrays]
    return usable, tally.problems + tally.duplicates
