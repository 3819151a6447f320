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
    from ...training.evaluation import ExampleSet
    from ..accuracy_gate import GateResult, Row

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
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="evaluate on --split of a folder with a manifest"
    )
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        type=Path,
        help="evaluate on the validation people of a recipe's data",
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
    from ..accuracy_gate import count_bytes, run_gate
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
    example_sets = _find_example_sets(args, bundle)
    limits = Limits(args.max_drop, args.min_agreement, args.max_ece_rise, args.max_bytes)
    gate = run_gate(bundle, example_sets, limits, args.level)
    print_rows(gate.rows)
    sizes = {name: count_bytes(bundle, name) for name in ("fp32", "int8")}
    print(", ".join(f"{name} networks {size} bytes" for name, size in sizes.items()))
    if sizes["int8"] > limits.bytes:
        gate.violations.append(f"int8: {sizes['int8']} bytes must be at most {limits.bytes}")
    if args.json is not None:
        write_report(args.json, bundle, gate, sizes)
    if args.record:
        protocols = "; ".join(examples.protocol for examples in example_sets)
        level = f"level {args.level or 'best'}: {protocols}"
        record_precisions(bundle, gate.rows, level, gate.notes)
    for line in gate.violations:
        print(f"refused: {line}", file=sys.stderr)
    return EXIT_REFUSED if gate.violations else 0


def _find_example_sets(args: argparse.Namespace, bundle: Bundle) -> list[ExampleSet]:
    """Return the examples of each data set that the options name."""
    from ...training.data import load_folder
    from ...training.evaluation import Selection, find_examples

    names = list(bundle.manifest.models)
    selections = []
    if args.ferplus is not None:
        selections.append(Selection("ferplus", args.ferplus, args.split, None, "face", ""))
    if args.ravdess is not None:
        selections.append(Selection("ravdess", args.ravdess, "valid", args.actors, "voice", ""))
    if args.folder is not None:
        label_names = Selection("folder", args.folder).names(bundle)
        kinds = {item.kind for item in load_folder(args.folder, args.split, label_names)}
        selections += [
            Selection("folder", args.folder, args.split, None, name, "")
            for name, other in (("face", "sound"), ("voice", "picture"))
            if name in names and kinds - {other}
        ]
    for selection in selections:
        if selection.modality not in names:
            raise CalibrationError(f"{args.bundle}: holds no {selection.modality} network")
    example_sets = [find_examples(selection, bundle) for selection in selections]
    if args.recipe is not None:
        example_sets += _find_recipe_examples(args.recipe, bundle)
    if not example_sets:
        raise CalibrationError(
            "no data set to compare on: give --ferplus, --ravdess, --folder or --recipe"
        )
    return example_sets


def _find_recipe_examples(file: Path, bundle: Bundle) -> list[ExampleSet]:
    from ...training.data import FeatureCache, load_corpus
    from ...training.recipe_file import load_recipe
    from ..corpus_gate import list_gate_examples

    recipe = load_recipe(file)
    return list_gate_examples(bundle, load_corpus(recipe, FeatureCache(recipe.cache)))


def print_rows(rows: list[Row]) -> None:
    """Print a table with one line for each row."""
    print(f"{'':12} {'accuracy':>8} {'UAR':>6} {'ECE':>6} {'agrees':>7} {'n':>6} {'bytes':>9}")
    for row in rows:
        print(
            f"{row.network:5} {row.precision:6} {row.accuracy:8.4f} {row.uar:6.4f} {row.ece:6.4f}"
            f" {row.agreement:7.4f} {row.n:6} {row.bytes:9}"
        )


def write_report(file: Path, bundle: Bundle, gate: GateResult, sizes: dict[str, int]) -> None:
    """Write the results of the gate. Raises CalibrationError."""
    report = {
        "bundle": bundle.sha256,
        "rows": [row.describe() for row in gate.rows],
        "bytes": sizes,
        "refused": gate.violations,
        "notes": gate.notes,
    }
    try:
        file.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise CalibrationError(f"--json {file}: {error.strerror}") from error
