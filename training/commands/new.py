"""`emotion-train new`: write a recipe for the data in a folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ..errors import DatasetError


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "new",
        help="write a recipe for the data in a folder",
        description="Look for manifest.csv, RAVDESS, its action units, FER+ and ESC's noise in DIR"
        " and below, print what is there, and write a commented recipe. Nothing is decoded, and no"
        " file is overwritten.",
    )
    parser.add_argument("dir", metavar="DIR", type=Path)
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        default=Path("recipe.yaml"),
        help="the recipe (default: recipe.yaml)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    from ..data.drafting import draft_recipe
    from ..recipe_file import dump_recipe, move_recipe

    if args.out.exists():
        raise DatasetError(f"--out {args.out}: exists already")
    draft = draft_recipe(args.dir)
    text = dump_recipe(move_recipe(draft.recipe, args.out.parent))
    try:
        with args.out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DatasetError(f"--out {args.out}: {os.strerror(error.errno or 0)}") from error
    for line in draft.lines:
        print(line)
    if draft.problem:
        print(f"not enough to train on yet: {draft.problem}")
    print(f"{args.out}: written; emotion-train all {args.out} trains it")
