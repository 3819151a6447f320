"""Custom data sets: a folder with `manifest.csv` of the columns file, label, subject, split.

In: the folder. Out: one `FolderItem` per row; only the manifest is read. A subject may be in one
split only, so that scores are of held-out people. Without the column `split` subjects are divided
70/15/15 by a hash of their names. Without `subject` each file counts as a person of its own, with
a warning.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, TextIO

from ..errors import DatasetError
from .label_names import LabelNames, canonical_name

log = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
COLUMNS = ("file", "label", "subject", "split")
NEEDED = ("file", "label")
SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "training": "train",
    "val": "valid",
    "validation": "valid",
    "testing": "test",
}
"""Names of the splits in manifests, in lower case."""
Kind = Literal["picture", "sound", "video"]
KINDS: dict[Kind, tuple[str, ...]] = {
    "picture": (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    "sound": (".wav", ".flac", ".ogg", ".mp3", ".m4a"),
    "video": (".mp4", ".avi", ".mkv", ".mov", ".webm"),
}


@dataclass(frozen=True, slots=True)
class FolderItem:
    """One row of the manifest."""

    path: Path
    label: str
    """One of the labels of the recipe or bundle."""
    subject: str
    split: str
    """One of `SPLITS`."""
    kind: Kind
    name: str = field(default="", compare=False)
    """The manifest's own name of the label, by `canonical_name`."""


def load_folder(
    root: Path, split: str | None = None, names: LabelNames | None = None
) -> list[FolderItem]:
    """Load the items of one split, or of all, without copies of files.

    `names` are by default those of the product's seven labels. Raises DatasetError for an invalid
    manifest. Files are not decoded here.
    """
    if split is not None and split not in SPLITS:
        raise DatasetError(f"split {split!r}, allowed: {', '.join(SPLITS)}")
    items, copies = drop_copies(read_manifest(root, names))
    for line in copies:
        log.warning("skipped: %s", line)
    chosen = [item for item in items if split in (None, item.split)]
    if not chosen:
        raise DatasetError(f"{root / MANIFEST}: no file in {split or 'it'}")
    return chosen


def read_manifest(root: Path, names: LabelNames | None = None) -> list[FolderItem]:
    """Read all rows, copies included, without those whose label `names` leaves out. Raises
    DatasetError."""
    names = names or LabelNames()
    items: list[FolderItem] = []
    line_of: dict[Path, int] = {}
    split_of: dict[str, str] = {}
    with _open_table(root) as (table, reader):
        if "subject" not in (reader.fieldnames or ()):
            log.warning(
                "%s: no column subject: the same person may be in two splits, which makes scores"
                " too good",
                table,
            )
        for row in reader:
            where = f"{table} line {reader.line_num}"
            item = _parse_row(root, where, row, names)
            first = line_of.setdefault(item.path, reader.line_num)
            if first != reader.line_num:
                raise DatasetError(f"{where}: file {row['file']!r} is already in line {first}")
            if split_of.setdefault(item.subject, item.split) != item.split:
                raise DatasetError(
                    f"{where}: subject {item.subject!r} is in {split_of[item.subject]} and in"
                    f" {item.split}, allowed: one split per subject"
                )
            if item.label:
                items.append(item)
    if not items:
        raise DatasetError(f"{root / MANIFEST}: names no file")
    return items


def read_label_names(root: Path) -> list[str]:
    """Return the names of labels in the manifest, each once. Raises DatasetError."""
    with _open_table(root) as (_, reader):
        return list(dict.fromkeys((row["label"] or "").strip() for row in reader))


def has_split_column(root: Path) -> bool:
    """Whether the manifest states the splits. Raises DatasetError."""
    with _open_table(root) as (_, reader):
        return "split" in (reader.fieldnames or ())


@contextmanager
def _open_table(root: Path) -> Iterator[tuple[Path, csv.DictReader[str]]]:
    """Open the manifest of a folder. Errors of the table become DatasetErrors."""
    table = root / MANIFEST
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    if not table.is_file():
        raise DatasetError(f"{table}: no such file (expected: a table of {', '.join(COLUMNS)})")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = _open_reader(file)
            missing = set(NEEDED) - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(f"{table}: columns missing: {', '.join(sorted(missing))}")
            yield table, reader
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DatasetError(f"{table}: not a readable table: {error}") from error


def _open_reader(file: TextIO) -> csv.DictReader[str]:
    """Open a table whose columns are separated as its first line says: by commas, semicolons or
    tabs. Names of columns may have other letter cases and spaces around them."""
    first = file.readline()
    file.seek(0)
    separator = max(",;\t", key=first.count)  # the comma when there is none
    reader = csv.DictReader(file, delimiter=separator, skipinitialspace=True)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    return reader


def _parse_row(root: Path, where: str, row: dict[str, str], names: LabelNames) -> FolderItem:
    cells = {column: (row[column] or "").strip() for column in COLUMNS if column in row}
    for column, cell in cells.items():
        if not cell:
            raise DatasetError(f"{where}: {column} is empty")
    subject = cells.get("subject", cells["file"])
    label = names.find(cells["label"])
    if label is None:
        raise DatasetError(f"{where}: label is {cells['label']!r}, allowed: {names.describe()}")
    named_split = cells.get("split") or choose_split(subject)
    split = SPLIT_NAMES.get(named_split.lower())
    if split is None:
        raise DatasetError(f"{where}: split is {named_split!r}, allowed: {', '.join(SPLIT_NAMES)}")
    path = _resolve(root, where, cells["file"])
    kind = next((kind for kind, ends in KINDS.items() if path.suffix.lower() in ends), None)
    if kind is None:
        known = ", ".join(suffix for ends in KINDS.values() for suffix in ends)
        raise DatasetError(
            f"{where}: file is {cells['file']!r}, allowed: names that end in {known}"
        )
    return FolderItem(path, label, subject, split, kind, canonical_name(cells["label"]))


def choose_split(subject: str) -> str:
    """Return the split of a subject by a hash of the name: train 70 %, valid 15 %, test 15 %."""
    digest = hashlib.blake2b(subject.encode(errors="surrogateescape"), digest_size=4).digest()
    share = int.from_bytes(digest, "big") / 2**32
    return "train" if share < 0.7 else "valid" if share < 0.85 else "test"


def _resolve(root: Path, where: str, name: str) -> Path:
    """Return the path of a file. Refuse names and links that lead out of `root`.

    A name with the separators of Windows, or in another Unicode normalization than the file's, is
    that of the file.
    """
    outside = (
        "\0" in name
        or PurePosixPath(name).is_absolute()
        or bool(PureWindowsPath(name).anchor)
        or ".." in PureWindowsPath(name).parts  # accepts both kinds of slash
    )
    path = root / name
    try:
        if not outside:
            path = _find_file(root, name)
            outside = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links
        raise DatasetError(f"{where}: file is {name!r}: {error}") from error
    if outside:
        raise DatasetError(f"{where}: file is {name!r}, allowed: names of files inside {root}")
    return path


def _find_file(root: Path, name: str) -> Path:
    names = [name, name.replace("\\", "/")]
    names += [unicodedata.normalize(form, names[1]) for form in ("NFC", "NFD")]
    return next((root / each for each in names if (root / each).exists()), root / names[1])


def drop_copies(items: Sequence[FolderItem]) -> tuple[list[FolderItem], list[str]]:
    """Remove items whose file is a copy of another -> remaining items, one line per copy.

    The item of the latest split of train, valid, test stays, so that no content is both trained on
    and scored; within a split the first stays.
    """
    by_size: dict[int, list[FolderItem]] = defaultdict(list)
    for item in sorted(items, key=lambda item: -SPLITS.index(item.split)):
        try:
            by_size[item.path.stat().st_size].append(item)
        except OSError:
            continue  # reported when it is decoded
    copies: dict[Path, str] = {}
    for same_size in by_size.values():
        first: dict[bytes, Path] = {}
        for item in same_size if len(same_size) > 1 else ():
            original = first.setdefault(_hash_file(item.path), item.path)
            if original != item.path:
                copies[item.path] = f"{item.path}: same content as {original}"
    return [item for item in items if item.path not in copies], list(copies.values())


def _hash_file(path: Path) -> bytes:
    """Hash the content, or the name of a file that cannot be read."""
    digest = hashlib.blake2b()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        digest.update(str(path).encode())
    return digest.digest()
