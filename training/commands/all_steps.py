"""`emotion-train all`: from a recipe to a bundle, step by step."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..steps import Outcome


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and `--set`, which overrides it."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", type=Path, help="see `emotion-train new`")
    parser.add_argument(
        "--set", metavar="A.B=VALUE", action="append", default=[], help="set a key of the recipe"
    )


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "all",
        help="train, score and write the bundle of a recipe",
        description="Decode the data, train the networks, choose temperatures and weights on"
        " validation people, score test people, make INT8 networks and check them, write the bundle"
        " with its card, and one report. A second call goes on where the first one ended.",
    )
    add_recipe_argument(parser)
    parser.add_argument(
        "--until",
        choices=("prepare", "train", "evaluate", "export"),
        default="export",
        help="last step to do (default: export, which writes the bundle)",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    run_until(args.recipe, args.set, args.until)


def run_until(path: Path, settings: list[str], until: str) -> None:
    """Do the steps up to `until`, and print what has come of them."""
    from ..recipe_file import load_recipe
    from ..steps import run_recipe

    # Absolute: the recipe is handed on to `emotion-calibrate` in another folder.
    for line in describe_outcome(run_recipe(load_recipe(path.absolute(), settings), until)):
        print(line)


def describe_outcome(outcome: Outcome) -> list[str]:
    """Return one line for each result."""
    corpus = outcome.material.corpus
    lines = [
        f"{name}: {len(each.labels)} of {len(set(each.people) - {''})} people"
        for name, each in (("faces", corpus.faces), ("recordings", corpus.voices))
        if each is not None
    ]
    if corpus.skipped:
        lines.append(f"left out: {len(corpus.skipped)}")
    for name, figures in outcome.scores.items():
        lines.append(
            f"{name}: accuracy {figures['accuracy']:.3f}, mean recall {figures['uar']:.3f},"
            f" calibration error {figures['ece']:.3f}, {figures['n']} examples of test people"
        )
    refused = outcome.int8.get("gate", {}).get("refused", ())
    lines += [f"INT8 is left out: {line}" for line in refused]
    if outcome.report is not None:
        lines.append(f"report: {outcome.report}")
    if outcome.bundle is not None:
        lines.append(f"{outcome.bundle.path}: {outcome.bundle.sha256}")
    return lines
