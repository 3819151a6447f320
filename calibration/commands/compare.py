"""`emotion-calibrate compare`: the accuracy gate."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engines.bundles import Bundle, load_bundle
from ...training.commands.evaluate import actor_list
from ..errors import CalibrationError
from ..options import Limits
from .quantize import share

if TYPE_CHECKING:
    from ..accuracy_gate import Row

EXIT_REFUSED = 1


def add_parser(commands: Any) -> argparse.ArgumentParser:
    limits = Limits()
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="compare a bundle's accuracy at FP32, FP16 and INT8, and refuse too large a loss",
        description="Evaluate with the device's preprocessing and engines, on people that"
        " calibration has not seen. The exit code is 1 when a limit is violated.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True, help="bundle to check")
    parser.add_argument(
        "--ferplus", metavar="DIR", type=Path, help="evaluate faces on --split of FER+"
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--ravdess", metavar="DIR", type=Path, help="evaluate voices on RAVDESS")
    parser.add_argument(
        "--actors", type=actor_list, help="actors of RAVDESS, such as 4,9 (default: all)"
    )
    parser.add_argument(
        "--level", default="", help="quality level of the bundle (default: the best)"
    )
    for option, parse, default, text in (
        ("--max-drop", share, limits.accuracy_drop, "largest drop of accuracy against FP32"),
        (
            "--min-agreement",
            share,
            limits.agreement,
            "smallest share of predictions equal to FP32's",
        ),
        ("--max-ece-rise", share, limits.ece_rise, "largest rise of the calibration error"),
        ("--max-bytes", int, limits.bytes, "largest total size of the INT8 networks"),
    ):
        parser.add_argument(
            option, type=parse, default=default, help=f"{text} (default: {default})"
        )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here too")
    parser.add_argument(
        "--record", action="store_true", help="record the results in the bundle and its model card"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from ...training.evaluation import Selection
    from ..accuracy_gate import PRECISIONS, compare_precisions, count_bytes, find_violations
    from ..variants import record_precisions

    bundle = load_bundle(args.bundle)
    without_int8 = [
        name for name, model in bundle.manifest.models.items() if "int8" not in model.variants
    ]
    if without_int8:
        raise CalibrationError(
            f"{args.bundle}: no int8 variant of the {without_int8[0]} network: run"
            " emotion-calibrate quantize"
        )
    selections = []
    if args.ferplus is not None:
        selections.append(Selection("ferplus", args.ferplus, args.split, None, "face", ""))
    if args.ravdess is not None:
        selections.append(Selection("ravdess", args.ravdess, "valid", args.actors, "voice", ""))
    if not selections:
        raise CalibrationError("no data set to compare on: give --ferplus, --ravdess or both")
    rows = []
    for selection in selections:
        model = bundle.manifest.models.get(selection.modality)
        if model is None:
            raise CalibrationError(f"{args.bundle}: holds no {selection.modality} network")
        rows += compare_precisions(bundle, selection, PRECISIONS, args.level)
    print_rows(rows)
    limits = Limits(args.max_drop, args.min_agreement, args.max_ece_rise, args.max_bytes)
    violations = list(find_violations(rows, limits))
    sizes = {name: count_bytes(bundle, name) for name in ("fp32", "int8")}
    print(", ".join(f"{name} networks {size} bytes" for name, size in sizes.items()))
    if sizes["int8"] > limits.bytes:
        violations.append(f"int8: {sizes['int8']} bytes must be at most {limits.bytes}")
    if args.json is not None:
        _write_report(args.json, bundle, rows, sizes, violations)
    if args.record:
        data_sets = [f"FER+ {args.split}"] if args.ferplus is not None else []
        if args.ravdess is not None:
            people = "all actors" if args.actors is None else f"actors {args.actors}"
            data_sets.append(f"RAVDESS, {people}")
        record_precisions(bundle, rows, f"level {args.level or 'best'}: {'; '.join(data_sets)}")
    for line in violations:
        print(f"refused: {line}", file=sys.stderr)
    return EXIT_REFUSED if violations else 0


def print_rows(rows: list[Row]) -> None:
    """Print a table with one line for each row."""
    print(f"{'':12} {'accuracy':>8} {'UAR':>6} {'ECE':>6} {'agrees':>7} {'n':>6} {'bytes':>9}")
    for row in rows:
        print(
            f"{row.network:5} {row.precision:6} {row.accuracy:8.4f} {row.uar:6.4f} {row.ece:6.4f}"
            f" {row.agreement:7.4f} {row.n:6} {row.bytes:9}"
        )


def _write_report(
    file: Path, bundle: Bundle, rows: list[Row], sizes: dict[str, int], violations: list[str]
) -> None:
    report = {
        "bundle": bundle.sha256,
        "rows": [row.describe() for row in rows],
        "bytes": sizes,
        "refused": violations,
    }
    try:
        file.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise CalibrationError(f"--json {file}: {error.strerror}") from error
