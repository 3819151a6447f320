"""`emotion-train evaluate`: score a bundle with the code that runs on the device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...engines.bundles import PRECISIONS, load_bundle
from ..errors import DatasetError

VOICE_ACTIVITY = "voice_activity"
DETECTION = "detection"
DEFAULT_MIN_SCORE, DEFAULT_NUM_FACES = 0.5, 400


def actor_list(text: str) -> list[int]:
    try:
        actors = [int(part) for part in text.split(",")]
    except ValueError:
        actors = []
    if not actors or not all(1 <= actor <= 24 for actor in actors):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected numbers from 1 to 24, for example 4,9"
        )
    return actors


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="score a bundle on a data set with the code that runs on the device",
        description="FER+ has faces: ROOT/SPLIT.zip and ROOT/SPLIT.csv. RAVDESS has voices"
        " (03-01-....wav or .flac), faces (videos 01-01-....mp4 and 02-01-....mp4), and both for"
        " fusion, in any folders under ROOT. A custom folder has ROOT/manifest.csv with the columns"
        " file, label, subject, split. voice_activity takes speech from ROOT (RAVDESS, or any audio"
        " files) and from espeak-ng if it is installed, and sounds without speech from --noise; it"
        " leaves out what `voice-activity` trains on. detection scores a face detector on clips of"
        " one person each and on composites of FER+ faces (ROOT) and --pictures, dark, tilted,"
        " covered and small; YuNet says where the faces are.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--dataset",
        choices=("ravdess", "ferplus", "folder", VOICE_ACTIVITY, DETECTION),
        required=True,
    )
    parser.add_argument("--root", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        type=Path,
        help="recipe whose `map` gives names of the data a label of the bundle",
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        help="split of FER+ or a folder (default: valid)",
    )
    parser.add_argument(
        "--actors", type=actor_list, help="actors of RAVDESS, for example 4,9 (default: all)"
    )
    parser.add_argument(
        "--modality",
        choices=("face", "voice", "fusion"),
        help="modality to evaluate (default: that with the most examples)",
    )
    parser.add_argument(
        "--level", default="", help="quality level of the bundle (default: the highest)"
    )
    parser.add_argument("--engine", default="auto", choices=("auto", "tensorrt", "onnx"))
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="auto: FP16 on TensorRT, FP32 otherwise",
    )
    parser.add_argument(
        "--yunet",
        metavar="FILE",
        default="",
        help="YuNet face detector (default: the bundle's)",
    )
    parser.add_argument(
        "--network",
        metavar="FILE",
        type=Path,
        help="ONNX file of a voice-activity network or face detector to score in place of the"
        " bundle's",
    )
    detection = parser.add_argument_group("with --dataset detection")
    detection.add_argument(
        "--clips", metavar="DIR", type=Path, help="videos and pictures of one person each"
    )
    detection.add_argument("--pictures", metavar="DIR", type=Path, help="pictures without faces")
    detection.add_argument("--teacher", metavar="FILE", type=Path, help="YuNet")
    detection.add_argument(
        "--min-score",
        type=float,
        default=DEFAULT_MIN_SCORE,
        help=f"least score of a face for --network (default: {DEFAULT_MIN_SCORE})",
    )
    detection.add_argument(
        "--faces",
        type=int,
        default=DEFAULT_NUM_FACES,
        help=f"composites (default: {DEFAULT_NUM_FACES})",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, required=True)
    parser.add_argument("--report", metavar="DIR", type=Path, help="write plots and report.html")
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="repeat with noise, reverberation, low light, blur, compression, occlusion and, for"
        " fusion, with one modality missing",
    )
    parser.add_argument(
        "--noise",
        metavar="DIR",
        type=Path,
        help="noise recordings to add (default: white and pink noise); with voice_activity: sounds"
        " without speech, a folder per class",
    )
    parser.add_argument(
        "--impulse-responses",
        metavar="DIR",
        type=Path,
        help="impulse responses of rooms (default: three synthetic ones)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the robustness conditions (default: 0)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    from ..evaluation.evaluate import RobustnessOptions, evaluate_bundle

    if args.dataset == "ravdess" and args.split is not None:
        raise DatasetError(f"--split {args.split}: RAVDESS has no splits, choose --actors")
    if args.seed < 0:
        raise DatasetError(f"--seed {args.seed}: expected 0 or more")
    if args.dataset == VOICE_ACTIVITY:
        run_voice_activity(args)
        return
    for option in ("noise", "impulse_responses"):
        if getattr(args, option) is not None and not args.robustness:
            raise DatasetError(f"--{option.replace('_', '-')}: only with --robustness")
    if args.dataset == DETECTION:
        run_detection(args)
        return
    if args.network is not None:
        raise DatasetError(f"--network: only with --dataset {VOICE_ACTIVITY} or {DETECTION}")
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
        read_map(args.recipe, args.dataset, args.root),
    )
    write_json(metrics, args.json)
    low, high = metrics["accuracy_ci95"]
    print(
        f"{args.dataset} {metrics['modality']}: accuracy {metrics['accuracy']:.3f}"
        f" ({low:.3f} to {high:.3f}), UAR {metrics['uar']:.3f},"
        f" macro F1 {metrics['macro_f1']:.3f}, weighted F1 {metrics['weighted_f1']:.3f},"
        f" calibration error {metrics['ece']:.3f}, n {metrics['n']},"
        f" skipped {metrics['skipped']}"
    )
    if args.report is not None:
        write_page(metrics, args.report)


def read_map(recipe: Path | None, dataset: str, root: Path) -> Mapping[str, str]:
    """Return the `map` of the recipe's data set in the folder `root`, else of the only one of its
    kind. Raises DatasetError when there is none or one of several."""
    if recipe is None:
        return {}
    from ..recipe_file import load_recipe

    sections = [section for section in load_recipe(recipe).data if section.kind == dataset]
    here = [each for each in sections if Path(each.root).resolve() == root.resolve()]
    found = here[:1] or sections
    if len(found) != 1:
        raise DatasetError(
            f"--recipe {recipe}: has {len(found)} data sets of the kind {dataset}, and none in"
            f" {root}, allowed: one"
        )
    return found[0].map


def run_voice_activity(args: argparse.Namespace) -> None:
    """Score voice activity and print a table."""
    from ..evaluation.voice_activity import format_table
    from ..evaluation.voice_activity_sets import score_voice_activity

    if args.noise is None:
        raise DatasetError(f"--dataset {VOICE_ACTIVITY} needs --noise, sounds without speech")
    wrong = ("modality", "level", "yunet", "robustness", "report", "impulse_responses", "recipe")
    for option in wrong:
        if getattr(args, option):
            name = option.replace("_", "-")
            raise DatasetError(f"--{name}: not with --dataset {VOICE_ACTIVITY}")
    results = score_voice_activity(
        load_bundle(args.bundle), args.root, args.noise, args.actors, args.network, args.seed
    )
    write_json(results, args.json)
    print(format_table(results))


def run_detection(args: argparse.Namespace) -> None:
    """Score a face detector and print a table."""
    from ..evaluation.detection import format_table, score_detector
    from ..evaluation.detection_sources import load_sources, open_scored

    for option in ("clips", "pictures", "teacher"):
        if getattr(args, option) is None:
            raise DatasetError(f"--dataset {DETECTION} needs --{option}")
    for option in ("modality", "level", "actors", "robustness", "report", "recipe"):
        if getattr(args, option):
            raise DatasetError(f"--{option}: not with --dataset {DETECTION}")
    if not 0 < args.min_score < 1:
        raise DatasetError(f"--min-score {args.min_score}: expected between 0 and 1")
    if args.faces < 1:
        raise DatasetError(f"--faces {args.faces}: expected 1 or more")
    detector = open_scored(load_bundle(args.bundle), args.network, args.min_score, args.yunet)
    split = args.split or "valid"
    sources = load_sources(
        args.root, split, args.clips, args.pictures, args.teacher, args.faces, args.seed
    )
    results = score_detector(detector, sources, args.seed)
    write_json(results, args.json)
    print(format_table(results))


def write_json(metrics: dict[str, Any], path: Path) -> None:
    """Write the metrics. Raises DatasetError when the file cannot be written."""
    try:
        path.write_text(json.dumps(metrics, indent=2) + "\n")
    except OSError as error:
        raise DatasetError(f"--json {path}: {error.strerror}") from error


def write_page(metrics: dict[str, Any], folder: Path) -> None:
    """Write the report. Raises DatasetError when the folder cannot be written."""
    from ..evaluation.report import write_report

    try:
        page = write_report(metrics, folder)
    except OSError as error:
        raise DatasetError(f"--report {folder}: {error.strerror}") from error
    print(f"report: {page}")
