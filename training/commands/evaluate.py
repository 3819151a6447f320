"""`emotion-train evaluate`: score a bundle through the code the device runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...engines.bundles import PRECISIONS, load_bundle
from ..errors import DatasetError


def actor_list(text: str) -> list[int]:
    try:
        actors = [int(part) for part in text.split(",")]
    except ValueError:
        actors = []
    if not actors or not all(1 <= actor <= 24 for actor in actors):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted numbers from 1 to 24, such as 4,9")
    return actors


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="score a bundle on a data set, through the code the device runs",
        description="FER+ shows faces: ROOT/SPLIT.zip and ROOT/SPLIT.csv. RAVDESS: recordings"
        " 03-01-....wav or .flac show the voice, films 01-01-....mp4 and 02-01-....mp4 the face,"
        " and both fusion, in any folders under ROOT. A folder of your own: ROOT/manifest.csv with"
        " the columns file, label, subject, split.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True)
    parser.add_argument("--dataset", choices=("ravdess", "ferplus", "folder"), required=True)
    parser.add_argument("--root", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), help="of FER+ or a folder (valid)"
    )
    parser.add_argument("--actors", type=actor_list, help="of RAVDESS, such as 4,9 (all)")
    parser.add_argument(
        "--modality",
        choices=("face", "voice", "fusion"),
        help="what to judge (what the data set shows most of)",
    )
    parser.add_argument("--level", default="", help="quality level of the bundle (the best)")
    parser.add_argument("--engine", default="auto", choices=("auto", "tensorrt", "onnx"))
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="auto: 16 bits on TensorRT, 32 elsewhere",
    )
    parser.add_argument(
        "--yunet", metavar="FILE", default="", help="a better face detector (OpenCV's cascade)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, required=True)
    parser.add_argument("--report", metavar="DIR", type=Path, help="write plots and report.html")
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="repeat under noise, reverberation, poor light, blur, compression, occlusion and, of"
        " fusion, with one modality missing",
    )
    parser.add_argument(
        "--noise", metavar="DIR", type=Path, help="sounds to mix in (white and pink noise)"
    )
    parser.add_argument(
        "--impulse-responses", metavar="DIR", type=Path, help="rooms (three synthetic ones)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the robustness conditions (0)")
    return parser


def run(args: argparse.Namespace) -> None:
    from ..evaluation.evaluate import RobustnessOptions, evaluate_bundle

    if args.dataset == "ravdess" and args.split is not None:
        raise DatasetError(f"--split {args.split}: RAVDESS has no splits, choose --actors")
    for option in ("noise", "impulse_responses"):
        if getattr(args, option) is not None and not args.robustness:
            raise DatasetError(f"--{option.replace('_', '-')}: only beside --robustness")
    if args.seed < 0:
        raise DatasetError(f"--seed {args.seed}: wanted 0 or more")
    metrics = evaluate_bundle(
        load_bundle(args.bundle),
        args.dataset,
        args.root,
        args.split or "valid",
        args.actors,
        args.engine,
        args.level,
        args.modality or "",
        args.yunet,
        RobustnessOptions(args.noise, args.impulse_responses, args.seed)
        if args.robustness
        else None,
        args.precision,
    )
    try:
        args.json.write_text(json.dumps(metrics, indent=2) + "\n")
    except OSError as error:
        raise DatasetError(f"--json {args.json}: {error.strerror}") from error
    low, high = metrics["accuracy_ci95"]
    print(
        f"{args.dataset} {metrics['modality']}: accuracy {metrics['accuracy']:.3f}"
        f" ({low:.3f} to {high:.3f}), UAR {metrics['uar']:.3f},"
        f" macro F1 {metrics['macro_f1']:.3f}, weighted F1 {metrics['weighted_f1']:.3f},"
        f" calibration error {metrics['ece']:.3f}, n {metrics['n']},"
        f" left out {metrics['skipped']}"
    )
    if args.report is not None:
        write_page(metrics, args.report)


def write_page(metrics: dict[str, Any], folder: Path) -> None:
    """Raises DatasetError when the folder cannot be written."""
    from ..evaluation.report import write_report

    try:
        page = write_report(metrics, folder)
    except OSError as error:
        raise DatasetError(f"--report {folder}: {error.strerror}") from error
    print(f"report: {page}")
