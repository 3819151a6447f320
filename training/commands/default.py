"""`emotion-train default`: the bundle that ships, from the data up."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    bundle: argparse.ArgumentParser = commands.add_parser(
        "default", help="train the bundle that ships, from the data up"
    )
    bundle.add_argument("--ferplus", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--ravdess", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--work", metavar="DIR", type=Path, default=Path("build/train"))
    bundle.add_argument("--out", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--voice-seeds", type=int, default=1, help="runs of each RAVDESS fold")
    return bundle


def run(args: argparse.Namespace) -> None:
    from ..default import train_default
    from ..face import FaceRecipe
    from ..voice import VoiceRecipe

    bundle = train_default(
        args.ferplus,
        args.ravdess,
        args.work,
        args.out,
        FaceRecipe(),
        VoiceRecipe(),
        args.voice_seeds,
    )
    print(f"{bundle.path}: {bundle.sha256}")
