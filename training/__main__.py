"""The command line `emotion-train`: evaluate a bundle, train the one that ships."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..engines.base import EngineError
from ..engines.bundle import BundleError, load_bundle
from .data import DatasetError

USER_ERRORS = (BundleError, DatasetError, EngineError)
EXIT_USER_ERROR = 2


def actor_list(text: str) -> list[int]:
    try:
        actors = [int(part) for part in text.split(",")]
    except ValueError:
        actors = []
    if not actors or not all(1 <= actor <= 24 for actor in actors):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted numbers from 1 to 24, such as 4,9")
    return actors


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-train", description="Trains the networks and scores bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    judge = commands.add_parser(
        "evaluate",
        help="score a bundle on a data set, through the code the device runs",
        description="FER+ scores the face network: ROOT/SPLIT.zip and ROOT/SPLIT.csv. RAVDESS"
        " scores the voice network: recordings 03-01-....wav or .flac anywhere under ROOT.",
    )
    judge.add_argument("--bundle", metavar="DIR", type=Path, required=True)
    judge.add_argument("--dataset", choices=("ravdess", "ferplus"), required=True)
    judge.add_argument("--root", metavar="DIR", type=Path, required=True)
    judge.add_argument("--split", choices=("train", "valid", "test"), help="of FER+ (valid)")
    judge.add_argument("--actors", type=actor_list, help="of RAVDESS, such as 4,9 (all)")
    judge.add_argument("--modality", choices=("face", "voice"), help="what the data set shows")
    judge.add_argument("--level", default="", help="quality level of the bundle (the best)")
    judge.add_argument("--engine", default="auto", choices=("auto", "onnx"))
    judge.add_argument("--json", metavar="FILE", type=Path, required=True)

    bundle = commands.add_parser("default", help="train the bundle that ships, from the data up")
    bundle.add_argument("--ferplus", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--ravdess", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--work", metavar="DIR", type=Path, default=Path("build/train"))
    bundle.add_argument("--out", metavar="DIR", type=Path, required=True)
    bundle.add_argument("--voice-seeds", type=int, default=1, help="runs of each RAVDESS fold")
    return parser


def evaluate(args: argparse.Namespace) -> None:
    from .evaluate import MODALITY_OF, evaluate_bundle

    shown = MODALITY_OF[args.dataset]
    if args.modality not in (None, shown):
        raise DatasetError(f"--modality {args.modality}: {args.dataset} shows only the {shown}")
    if args.dataset == "ravdess" and args.split is not None:
        raise DatasetError(f"--split {args.split}: RAVDESS has no splits, choose --actors")
    if args.dataset == "ferplus" and args.actors is not None:
        raise DatasetError("--actors: FER+ does not say who is who")
    figures = evaluate_bundle(
        load_bundle(args.bundle),
        args.dataset,
        args.root,
        args.split or "valid",
        args.actors,
        args.engine,
        args.level,
    )
    try:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise DatasetError(f"--json {args.json}: {error.strerror}") from error
    print(
        f"{args.dataset} {shown}: accuracy {figures['accuracy']:.3f}, UAR {figures['uar']:.3f},"
        f" macro F1 {figures['macro_f1']:.3f}, weighted F1 {figures['weighted_f1']:.3f},"
        f" calibration error {figures['ece']:.3f}, n {figures['n']},"
        f" left out {figures['skipped']}"
    )


def default(args: argparse.Namespace) -> None:
    from .default import train_default
    from .face import FaceRecipe
    from .voice import VoiceRecipe

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


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        {"evaluate": evaluate, "default": default}[args.command](args)
    except USER_ERRORS as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
