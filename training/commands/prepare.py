"""`emotion-train prepare`: decode a data set into the cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError
from .evaluate import actor_list

if TYPE_CHECKING:
    from ..data.prepare import Part

DATASETS = ("ravdess", "ferplus", "folder", "action-units")
CACHE = Path("build/cache")
"""Folder that `prepare` fills and `train` and `tune` read."""
SPLITS = ("train", "valid", "test")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    prepare: argparse.ArgumentParser = commands.add_parser(
        "prepare",
        help="decode a data set into the cache and count its files",
        description="RAVDESS: clips anywhere under ROOT, by their published names. FER+:"
        " ROOT/SPLIT.zip and ROOT/SPLIT.csv, or fer2013new.csv with fer2013.csv. A custom folder:"
        " ROOT/manifest.csv with the columns file, label, subject, split. Action units: OpenFace's"
        " table. Unusable files are named and skipped. An interrupted run can be repeated, and the"
        " cache may be deleted at any time.",
    )
    prepare.add_argument("--dataset", choices=DATASETS, required=True)
    prepare.add_argument("--root", metavar="DIR", type=Path, required=True)
    prepare.add_argument("--cache", metavar="DIR", type=Path, default=CACHE)
    prepare.add_argument("--split", choices=SPLITS, help="split of FER+ or a folder (default: all)")
    prepare.add_argument(
        "--actors", type=actor_list, help="actors of RAVDESS, for example 4,9 (default: all)"
    )
    return prepare


def run(args: argparse.Namespace) -> None:
    from ..data import prepare
    from ..data.cache import FeatureCache

    if args.split is not None and args.dataset not in ("ferplus", "folder"):
        raise DatasetError(f"--split {args.split}: only for FER+ and folders")
    if args.actors is not None and args.dataset != "ravdess":
        raise DatasetError("--actors: only for RAVDESS")
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"--cache {args.cache}: {error.strerror}") from error
    cache = FeatureCache(args.cache)
    parts = {
        "ravdess": lambda: prepare.prepare_ravdess(args.root, args.actors, cache),
        "ferplus": lambda: prepare.prepare_ferplus(args.root, args.split, cache),
        "folder": lambda: prepare.prepare_folder(args.root, args.split, cache),
        "action-units": lambda: prepare.prepare_action_units(args.root),
    }[args.dataset]()
    unusable = []
    for part in parts:
        print_part(part)
        if part.num_skipped == part.num_files:
            unusable.append(part.name)
    if unusable:
        raise DatasetError(f"{args.root}: no usable {', '.join(unusable)}")
    if cache.write_error:
        raise DatasetError(cache.write_error)


def print_part(part: Part) -> None:
    """Print counts, labels, and a line for each skipped file."""
    print(
        f"{part.name}: {part.num_files} files, {part.num_cached} from the cache;"
        f" {part.num_usable} usable, {part.num_skipped} skipped, {part.num_duplicates} duplicates"
    )
    if part.labels:
        print("  " + ", ".join(f"{label} {num}" for label, num in part.labels.items()))
        absent = [label for label, num in part.labels.items() if num == 0]
        if absent:
            print(f"  warning: no file has the label {', '.join(absent)}")
    for note in part.notes:
        print(f"  {note}")
