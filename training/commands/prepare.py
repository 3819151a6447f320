"""`emotion-train prepare`: decode a recipe's data, or one data set, into the cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DatasetError
from .evaluate import actor_list

if TYPE_CHECKING:
    from ..data.cache import FeatureCache
    from ..data.prepare import Part

DATASETS = ("ravdess", "ferplus", "folder", "action-units")
CACHE = Path("build/cache")
"""Folder that `prepare` fills and `train` and `tune` read."""
SPLITS = ("train", "valid", "test")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    prepare: argparse.ArgumentParser = commands.add_parser(
        "prepare",
        help="decode a recipe's data, or one data set, into the cache",
        description="With RECIPE: check and decode all of its data, into WORK/cache. Without: one"
        " data set. RAVDESS: clips anywhere under ROOT, by their published names. FER+:"
        " ROOT/SPLIT.zip and ROOT/SPLIT.csv, or fer2013new.csv with fer2013.csv. A custom folder:"
        " ROOT/manifest.csv with the columns file, label, subject, split. Action units: OpenFace's"
        " table. Unusable files are named and skipped. An interrupted run can be repeated, and the"
        " cache may be deleted at any time.",
    )
    prepare.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help="recipe.yaml")
    prepare.add_argument(
        "--set", metavar="A.B=VALUE", action="append", default=[], help="set a key of the recipe"
    )
    prepare.add_argument("--dataset", choices=DATASETS)
    prepare.add_argument("--root", metavar="DIR", type=Path)
    prepare.add_argument(
        "--cache", metavar="DIR", type=Path, help=f"default: {CACHE}, or that of the recipe"
    )
    prepare.add_argument("--split", choices=SPLITS, help="split of FER+ or a folder (default: all)")
    prepare.add_argument(
        "--actors", type=actor_list, help="actors of RAVDESS, for example 4,9 (default: all)"
    )
    return prepare


def run(args: argparse.Namespace) -> None:
    given = [name for name in ("dataset", "root", "split", "actors") if getattr(args, name)]
    if args.recipe is not None:
        if given:
            raise DatasetError(f"--{given[0]}: not with a recipe, which names its data")
        prepare_recipe(args.recipe, args.set, args.cache)
        return
    if args.set:
        raise DatasetError("--set: only with a recipe")
    if args.dataset is None or args.root is None:
        raise DatasetError("prepare: wanted a recipe, or --dataset and --root")
    if args.split is not None and args.dataset not in ("ferplus", "folder"):
        raise DatasetError(f"--split {args.split}: only for FER+ and folders")
    if args.actors is not None and args.dataset != "ravdess":
        raise DatasetError("--actors: only for RAVDESS")
    prepare_data_set(args)


def prepare_recipe(path: Path, settings: list[str], folder: Path | None) -> None:
    """Decode all data of a recipe, and print what it holds."""
    from ..data import load_corpus
    from ..data.corpus import call_roll
    from ..data.corpus_checks import describe_roll
    from ..recipe_file import load_recipe

    recipe = load_recipe(path, settings)
    cache = open_cache(folder or recipe.cache)
    corpus = load_corpus(recipe, cache)
    for examples in (corpus.faces, corpus.voices):
        if examples is not None:
            print("\n".join(describe_roll(call_roll(examples), corpus.labels)))
    if corpus.units is not None:
        print(f"action units: {len(corpus.units.recording_ids)} recordings")
    for number, fold in enumerate(corpus.folds):
        counts = (f"{name} {len(fold.people(name))}" for name in SPLITS)
        print(f"fold {number}: {', '.join(counts)} people")
    print(f"{len(corpus.skipped)} files skipped")
    for line in corpus.skipped:
        print(f"  {line}")
    if cache.write_error:
        raise DatasetError(cache.write_error)


def open_cache(folder: Path) -> FeatureCache:
    """Make the folder of the cache. Raises DatasetError."""
    from ..data.cache import FeatureCache

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"--cache {folder}: {error.strerror}") from error
    return FeatureCache(folder)


def prepare_data_set(args: argparse.Namespace) -> None:
    """Decode one data set, and print its files."""
    from ..data import prepare

    cache = open_cache(args.cache or CACHE)
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
