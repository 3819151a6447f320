"""FER+ on disk: one split in any of the three layouts in which it is distributed.

In: a root folder and a split. Out: one `Row` per face of the table.

1. `SPLIT.csv` (file, then the ten votes) beside `SPLIT.zip` with the images.
2. As published (github.com/microsoft/FERPlus): `fer2013new.csv` (Usage, Image name, then the ten
   votes), and FER2013's own table `fer2013.csv` (emotion, pixels, Usage) with the same rows, or
   Kaggle's later copy of it, `icml_face_data.csv`.
3. `fer2013new.csv` with the images in folders `FER2013Train`, `FER2013Valid`, `FER2013Test`.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .images import MAX_FACE_BYTES, decode_gray, read_gray

VOTES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
SPLITS = ("train", "valid", "test")
FACE_PX = 48
VOTE_TABLE = "fer2013new.csv"
PIXEL_TABLES = ("fer2013.csv", "icml_face_data.csv")
_USAGE = {"train": "Training", "valid": "PublicTest", "test": "PrivateTest"}
_FOLDER = {"train": "FER2013Train", "valid": "FER2013Valid", "test": "FER2013Test"}


class Row(NamedTuple):
    """One face of the table."""

    name: str
    counts: NDArray[np.int64]
    """(10,), in the order of `VOTES`."""
    decode: Callable[[], NDArray[np.uint8] | None]
    """Returns the image (48, 48), None when it cannot be read. Call it before the next row."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Files of a split, and how to read them."""

    images: Path
    """The file or folder with the images."""
    files: Sequence[Path]
    """All files that the rows depend on."""
    read: Callable[[], Iterator[Row]]
    """Raises DatasetError when a table or an archive is invalid."""


def has_split(root: Path, split: str) -> bool:
    """Whether the files of this split are present; they may still be invalid."""
    if (root / VOTE_TABLE).is_file():
        return _find_pixel_table(root) is not None or (root / _FOLDER[split]).is_dir()
    return (root / f"{split}.csv").is_file() and (root / f"{split}.zip").is_file()


def find_layout(root: Path, split: str) -> Layout:
    """Find the layout of a split. Raises DatasetError, naming what is missing."""
    if split not in SPLITS:
        raise DatasetError(f"split {split!r}, allowed: {', '.join(SPLITS)}")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    votes = root / VOTE_TABLE
    if votes.is_file():
        pixels, folder = _find_pixel_table(root), root / _FOLDER[split]
        if pixels is not None:
            read = partial(_read_pixel_table, votes, pixels, split)
            return Layout(pixels, [votes, pixels], read)
        if folder.is_dir():
            files = [votes, *sorted(folder.glob("*.png"))]
            return Layout(folder, files, partial(_read_folder, votes, folder, split))
        raise DatasetError(
            f"{votes}: needs {PIXEL_TABLES[0]} or the folder {folder.name} beside it"
        )
    table, archive = root / f"{split}.csv", root / f"{split}.zip"
    for path in (table, archive):
        if not path.is_file():
            raise DatasetError(
                f"{path}: no such file (FER+ needs {split}.csv and {split}.zip, or {VOTE_TABLE}"
                f" with {PIXEL_TABLES[0]})"
            )
    return Layout(archive, [table, archive], partial(_read_archive, table, archive))


def _find_pixel_table(root: Path) -> Path | None:
    return next((root / name for name in PIXEL_TABLES if (root / name).is_file()), None)


def _read_archive(table: Path, images: Path) -> Iterator[Row]:
    try:
        with zipfile.ZipFile(images) as archive, _open_table(table, ("file", *VOTES)) as rows:
            for line, row in rows:
                name = row["file"]
                counts = _parse_votes(table, line, row)
                yield Row(name, counts, partial(read_gray, archive, name, FACE_PX))
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{images}: not a FER+ split: {error}") from error


def _read_pixel_table(votes: Path, pixels: Path, split: str) -> Iterator[Row]:
    with (
        _open_table(votes, ("Usage", "Image name", *VOTES)) as vote_rows,
        _open_table(pixels, ("Usage", "pixels")) as pixel_rows,
    ):
        for vote_row, pixel_row in zip_longest(vote_rows, pixel_rows):
            if vote_row is None or pixel_row is None:
                longer = pixels if vote_row is None else votes
                raise DatasetError(f"{longer}: has more rows than the table beside it")
            line, row = vote_row
            if row["Usage"] != pixel_row[1]["Usage"]:
                raise DatasetError(
                    f"{pixels} line {pixel_row[0]}: Usage is {pixel_row[1]['Usage']!r},"
                    f" {votes.name} line {line} says {row['Usage']!r}"
                )
            if row["Usage"] == _USAGE[split] and row["Image name"]:
                text = pixel_row[1]["pixels"]
                yield Row(
                    row["Image name"],
                    _parse_votes(votes, line, row),
                    partial(_parse_pixels, text),
                )


def _read_folder(votes: Path, folder: Path, split: str) -> Iterator[Row]:
    with _open_table(votes, ("Usage", "Image name", *VOTES)) as rows:
        for line, row in rows:
            name = row["Image name"]
            if row["Usage"] == _USAGE[split] and name:
                counts = _parse_votes(votes, line, row)
                yield Row(name, counts, partial(_read_image, folder, name))


TableRow = tuple[int, Mapping[str, str]]


@contextmanager
def _open_table(path: Path, columns: Sequence[str]) -> Iterator[Iterator[TableRow]]:
    """Yield rows with their line number, one at a time because FER2013's table has 290 MB. Missing
    cells are empty, rows without any text are left out."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            # Kaggle's table has spaces before the names.
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            missing = set(columns) - set(reader.fieldnames)
            if missing:
                raise DatasetError(f"{path}: columns missing: {', '.join(sorted(missing))}")
            yield (
                (line := reader.line_num, row)
                for row in reader
                if any(isinstance(cell, str) and cell.strip() for cell in row.values())
            )
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a FER+ table, after line {line}: {error}") from error


def _parse_votes(path: Path, line: int, row: Mapping[str, str]) -> NDArray[np.int64]:
    counts = []
    for vote in VOTES:
        if not row[vote].strip().isdecimal() or len(row[vote]) > 6:
            raise DatasetError(
                f"{path} line {line}: {vote} is {row[vote]!r}, allowed: a number of votes"
            )
        counts.append(int(row[vote]))
    return np.array(counts, np.int64)


def _parse_pixels(text: str) -> NDArray[np.uint8] | None:
    try:
        pixels = bytes(map(int, text.split()))
    except ValueError:  # not a number, or not in 0..255
        return None
    if len(pixels) != FACE_PX * FACE_PX:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(FACE_PX, FACE_PX)


def _read_image(folder: Path, name: str) -> NDArray[np.uint8] | None:
    path = folder / name
    try:
        if Path(name).name != name or path.stat().st_size > MAX_FACE_BYTES:
            return None
        return decode_gray(path.read_bytes(), FACE_PX)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
