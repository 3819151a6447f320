"""`emotion-train default`: train the bundle that ships from the data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    bundle: argparse.ArgumentParser = commands.add_parser(
        "default",
        help="train the bundle that ships from the data sets",
        description="Train the face network on FER+, evaluate voice and fusion on folds of RAVDESS,"
        " train the voice network that ships on all actors, and write the bundle. A repeated start"
        " resumes an interrupted one.",
    )
    bundle.add_argument("--ferplus", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--ravdess", metavar="DIR", type=Path, required=True)
    bundle.add_argument(
        "--action-units",
        metavar="CSV",
        type=Path,
        help="OpenFace's table of the same recordings, to evaluate fusion on action units",
    )
    bundle.add_argument(
        "--noise",
        metavar="DIR",
        type=Path,
        help="noise recordings: one half for training, the other for evaluation",
    )
    bundle.add_argument(
        "--cache", metavar="DIR", type=Path, help="cache filled by `emotion-train prepare`"
    )
    bundle.add_argument("--work", metavar="DIR", type=Path, default=Path("build/train"))
    bundle.add_argument("--out", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--seeds", type=int, default=3, help="runs of each RAVDESS fold (3)")
    return bundle


def run(args: argparse.Namespace) -> None:
    from ..recipes.action_units import UnitsRecipe
    from ..recipes.default import DatasetPaths, train_default
    from ..recipes.face import FaceRecipe
    from ..recipes.fusion import FusionRecipe
    from ..recipes.ravdess_folds import Recipes
    from ..recipes.voice import VoiceRecipe

    bundle = train_default(
        DatasetPaths(args.ferplus, args.ravdess, args.action_units, args.noise, args.cache),
        args.work,
        args.out,
        FaceRecipe(),
        Recipes(VoiceRecipe(), UnitsRecipe(), FusionRecipe()),
        args.seeds,
    )
    print(f"{bundle.path}: {bundle.sha256}")
