"""`emotion-train evaluate`: score a bundle through the code the device runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...engines.bundle import load_bundle
from ..data import DatasetError


def actor_list(text: str) -> list[int]:
    try:
        actors = [int(part) for part in text.split(",")]
    except ValueError:
        actors = []
    if not actors or not all(1 <= actor <= 24 for actor in actors):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted numbers from 1 to 24, such as 4,9")
    return actors


def add_parser(commands: Any) -> argparse.ArgumentParser:
    judge: argparse.ArgumentParser = commands.add_parser(
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
    return judge


def run(args: argparse.Namespace) -> None:
    from ..evaluate import MODALITY_OF, evaluate_bundle

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
