"""`emotion-calibrate folds`: the cost of INT8 for the voice network, on held-out speakers.

The limits apply to all folds together: in a single fold one recording is 0.4 points of accuracy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ...engines.bundles import DEFAULT_BUNDLE, load_bundle
from ..options import CalibrationOptions, Limits
from .compare import EXIT_REFUSED, print_rows
from .quantize import add_recipe_arguments


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "folds",
        help="quantize the fold voice networks and evaluate them on their validation speakers",
        description="WORK/folds.json names the fold networks of `emotion-train all`. Each is"
        " calibrated on samples of its own training speakers only.",
    )
    parser.add_argument("ravdess", metavar="RAVDESS", type=Path, help="folder of RAVDESS")
    parser.add_argument("work", metavar="WORK", type=Path, help="work folder of the training")
    parser.add_argument(
        "--samples", metavar="FILE", type=Path, required=True, help="file of the command samples"
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        default=DEFAULT_BUNDLE,
        help="bundle whose input specs apply (default: the one that ships)",
    )
    parser.add_argument("--cache", metavar="DIR", type=Path, help="cache of decoded data sets")
    add_recipe_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from ..accuracy_gate import find_violations
    from ..cross_validation import ALL, compare_folds
    from ..samples import load_samples

    rows = compare_folds(
        args.ravdess,
        args.work,
        load_samples(args.samples, ["voice"])["voice"],
        load_bundle(args.bundle).manifest,
        CalibrationOptions(args.method, args.min_agreement, args.tables),
        args.cache,
    )
    print_rows(rows)
    violations = list(find_violations([row for row in rows if row.network == ALL], Limits()))
    for line in violations:
        print(f"refused: {line}", file=sys.stderr)
    return EXIT_REFUSED if violations else 0
