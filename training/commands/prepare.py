"""`emotion-train prepare`: decode a data set once, so that training starts at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError
from .evaluate import actor_list

if TYPE_CHECKING:
    from ..data.prepare import Part

DATASETS = ("ravdess", "ferplus", "folder", "action-units")
SPLITS = ("train", "valid", "test")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    prepare: argparse.ArgumentParser = commands.add_parser(
        "prepare",
        help="decode a data set into the cache, and say what is in it",
        description="RAVDESS: clips anywhere under ROOT, by their published names. FER+:"
        " ROOT/SPLIT.zip and ROOT/SPLIT.csv, or fer2013new.csv with fer2013.csv. A folder of your"
        " own: ROOT/manifest.csv with the columns file, label, subject, split. Action units:"
        " OpenFace's table. A file that cannot be used is named and skipped. May be stopped and"
        " started again; the cache may be deleted at any time.",
    )
    prepare.add_argument("--dataset", choices=DATASETS, required=True)
    prepare.add_argument("--root", metavar="DIR", type=Path, required=True)
    prepare.add_argument("--cache", metavar="DIR", type=Path, default=Path("build/cache"))
    prepare.add_argument("--split", choices=SPLITS, help="of FER+ or a folder (all)")
    prepare.add_argument("--actors", type=actor_list, help="of RAVDESS, such as 4,9 (all)")
    return prepare


def run(args: argparse.Namespace) -> None:
    from ..data import prepare
    from ..data.cache import FeatureCache

    if args.split is not None and args.dataset not in ("ferplus", "folder"):
        raise DatasetError(f"--split {args.split}: only FER+ and folders have splits")
    if args.actors is not None and args.dataset != "ravdess":
        raise DatasetError("--actors: only RAVDESS has numbered actors")
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
    useless = []
    for part in parts:
        print_part(part)
        if part.num_skipped == part.num_files:
            useless.append(part.name)
    if useless:
        raise DatasetError(f"{args.root}: nothing can be used of its {', '.join(useless)}")
    if cache.write_error:
        raise DatasetError(cache.write_error)


def print_part(part: Part) -> None:
    """A line of sums, one of labels, one for each file that was left out."""
    print(
        f"{part.name}: {part.num_files} files, {part.num_cached} of them from the cache;"
        f" {part.num_usable} usable, {part.num_skipped} skipped,"
        f" {part.num_duplicates} dropped as duplicates"
    )
    if part.labels:
        print("  " + ", ".join(f"{label} {num}" for label, num in part.labels.items()))
        absent = [label for label, num in part.labels.items() if num == 0]
        if absent:
            print(f"  warning: nothing is labelled {', '.join(absent)}")
    for note in part.notes:
        print(f"  {note}")
