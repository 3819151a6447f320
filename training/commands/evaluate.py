"""`emotion-train evaluate`: score a bundle through the code the device runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...engines.bundle import PRECISIONS, load_bundle
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
        description="FER+ shows faces: ROOT/SPLIT.zip and ROOT/SPLIT.csv. RAVDESS: recordings"
        " 03-01-....wav or .flac show the voice, films 01-01-....mp4 and 02-01-....mp4 the face,"
        " and both fusion, in any folders under ROOT. A folder of your own: ROOT/manifest.csv with"
        " the columns file, label, subject, split.",
    )
    judge.add_argument("--bundle", metavar="DIR", type=Path, required=True)
    judge.add_argument("--dataset", choices=("ravdess", "ferplus", "folder"), required=True)
    judge.add_argument("--root", metavar="DIR", type=Path, required=True)
    judge.add_argument(
        "--split", choices=("train", "valid", "test"), help="of FER+ or a folder (valid)"
    )
    judge.add_argument("--actors", type=actor_list, help="of RAVDESS, such as 4,9 (all)")
    judge.add_argument(
        "--modality",
        choices=("face", "voice", "fusion"),
        help="what to judge (what the data set shows most of)",
    )
    judge.add_argument("--level", default="", help="quality level of the bundle (the best)")
    judge.add_argument("--engine", default="auto", choices=("auto", "tensorrt", "onnx"))
    judge.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="auto: 16 bits on TensorRT, 32 elsewhere",
    )
    judge.add_argument(
        "--yunet", metavar="FILE", default="", help="a better face detector (OpenCV's cascade)"
    )
    judge.add_argument("--json", metavar="FILE", type=Path, required=True)
    judge.add_argument("--report", metavar="DIR", type=Path, help="write plots and report.html")
    judge.add_argument(
        "--robustness",
        action="store_true",
        help="repeat under noise, reverberation, poor light, blur, compression, occlusion and, of"
        " fusion, with one modality missing",
    )
    judge.add_argument(
        "--noise", metavar="DIR", type=Path, help="sounds to mix in (white and pink noise)"
    )
    judge.add_argument(
        "--impulse-responses", metavar="DIR", type=Path, help="rooms (three synthetic ones)"
    )
    judge.add_argument("--seed", type=int, default=0, help="of the robustness conditions (0)")
    return judge


def run(args: argparse.Namespace) -> None:
    from ..evaluate import Stress, evaluate_bundle

    if args.dataset == "ravdess" and args.split is not None:
        raise DatasetError(f"--split {args.split}: RAVDESS has no splits, choose --actors")
    for option in ("noise", "impulse_responses"):
        if getattr(args, option) is not None and not args.robustness:
            raise DatasetError(f"--{option.replace('_', '-')}: only beside --robustness")
    if args.seed < 0:
        raise DatasetError(f"--seed {args.seed}: wanted 0 or more")
    figures = evaluate_bundle(
        load_bundle(args.bundle),
        args.dataset,
        args.root,
        args.split or "valid",
        args.actors,
        args.engine,
        args.level,
        args.modality or "",
        args.yunet,
        Stress(args.noise, args.impulse_responses, args.seed) if args.robustness else None,
        args.precision,
    )
    try:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise DatasetError(f"--json {args.json}: {error.strerror}") from error
    low, high = figures["accuracy_ci95"]
    print(
        f"{args.dataset} {figures['modality']}: accuracy {figures['accuracy']:.3f}"
        f" ({low:.3f} to {high:.3f}), UAR {figures['uar']:.3f},"
        f" macro F1 {figures['macro_f1']:.3f}, weighted F1 {figures['weighted_f1']:.3f},"
        f" calibration error {figures['ece']:.3f}, n {figures['n']},"
        f" left out {figures['skipped']}"
    )
    if args.report is not None:
        write_page(figures, args.report)


def write_page(figures: dict[str, Any], folder: Path) -> None:
    """Raises DatasetError when the folder cannot be written."""
    from ..evaluation.report import write_report

    try:
        page = write_report(figures, folder)
    except OSError as error:
        raise DatasetError(f"--report {folder}: {error.strerror}") from error
    print(f"report: {page}")
