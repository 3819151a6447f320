"""Finds the data sets in a folder by their files.

In: any folder. Out: the sections of a recipe's `data`, the folder of noise, and counts of media
files that belong to no data set.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError
from ..recipe_file import DataSection
from .action_units import UNITS
from .ferplus_files import PIXEL_TABLES, SPLITS, VOTE_TABLE, has_split
from .folder import KINDS, MANIFEST
from .noise import SUFFIXES as NOISE_SUFFIXES
from .noise import esc_fold
from .ravdess import VIDEO_SUFFIXES, VOICE_SUFFIXES, parse_clip

OTHERS = {str(kind): ends for kind, ends in KINDS.items()} | {"zip archive": (".zip",)}
"""Files that are counted where they belong to no data set."""
MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class FoundData:
    """What a folder holds."""

    sections: tuple[DataSection, ...]
    noise: str
    """Folder of ESC's recordings; "" for none."""
    others: dict[str, int]
    """Number of files in no data set, by kind of `OTHERS`."""


def find_data(root: Path) -> FoundData:
    """Look for a manifest, FER+, RAVDESS, its action units and ESC, in `root` or below.

    Raises DatasetError, which says what was looked for, when there is no data set.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    sections: list[DataSection] = []
    clips: list[Path] = []
    noises: list[Path] = []
    tables: list[Path] = []
    others: Counter[str] = Counter()
    for folder, files in _walk(root):
        if MANIFEST in files:
            sections.append(DataSection(kind="folder", root=str(folder)))
            continue
        if VOTE_TABLE in files or any(has_split(folder, split) for split in SPLITS):
            sections.append(DataSection(kind="ferplus", root=str(folder)))
        for name in files:
            path = folder / name
            suffix = path.suffix.lower()
            if suffix in VOICE_SUFFIXES + VIDEO_SUFFIXES and parse_clip(path) is not None:
                clips.append(path)
            elif suffix in NOISE_SUFFIXES and esc_fold(path) is not None:
                noises.append(path)
            elif suffix == ".csv" and _is_unit_table(path):
                tables.append(path)
            else:
                others.update(kind for kind, ends in OTHERS.items() if suffix in ends)
    if clips:
        sections.append(DataSection(kind="ravdess", root=str(_common_folder(clips))))
    sections += [DataSection(kind="action_units", root=str(path)) for path in tables[:1]]
    if not any(section.kind != "action_units" for section in sections):
        raise DatasetError(_describe_nothing(root, others))
    return FoundData(tuple(sections), str(_common_folder(noises)) if noises else "", dict(others))


def _walk(root: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """Yield each folder with its files, in order; not what is below a manifest, and no hidden
    folders."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if MANIFEST in files:
            folders.clear()
        yield Path(folder), sorted(files)


def _is_unit_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = file.readline(MAX_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    return set(UNITS) <= {name.strip() for name in header.split(",")}


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _describe_nothing(root: Path, others: Counter[str]) -> str:
    pixels = next((name for name in PIXEL_TABLES if (root / name).is_file()), None)
    if pixels is not None:
        return f"{root}: {pixels} needs the votes of FER+, {VOTE_TABLE}, beside it"
    counts = " and ".join(f"{number} {kind}s" for kind, number in sorted(others.items()))
    return (
        f"{root}: no data set: wanted {MANIFEST} (a table of file, label, subject, split), RAVDESS"
        " (unpacked: 03-01-....wav, 01-01-....mp4) or FER+ (train.csv with train.zip, or"
        f" {VOTE_TABLE}); found {counts or 'no picture, sound or video'}"
    )
