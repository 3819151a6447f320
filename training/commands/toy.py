"""`emotion-train toy`: a data set of made-up people and its recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

RECIPE = "recipe.yaml"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "toy",
        help="write a data set of made-up people, to try everything without real data",
        description="Write pictures, recordings and films of ten made-up people with a manifest, a"
        " film to try the bundle on, and a recipe that takes about a minute. They are drawn and"
        " synthesised: what is trained on them is of no use on real people.",
    )
    parser.add_argument("out", metavar="DIR", type=Path, help="new or empty folder")
    parser.add_argument(
        "--ravdess",
        action="store_true",
        help="write films and recordings with the folders and names of RAVDESS, without a recipe",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    from ..errors import DatasetError
    from ..recipe_file import dump_recipe
    from ..toy import FILM, make_toy_recipe, write_folder, write_ravdess

    out: Path = args.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise DatasetError(f"{out}: has files, allowed: a new or an empty folder")
        if args.ravdess:
            write_ravdess(out, range(1, 25))
            print(f"{out}: 24 actors in the layout of RAVDESS")
            return
        write_folder(out)
        (out / RECIPE).write_text(dump_recipe(make_toy_recipe()), encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{out}: cannot be written: {error.strerror}") from error
    print(f"{out / RECIPE}: a recipe for ten people; {out / FILM}: a film of another one")
