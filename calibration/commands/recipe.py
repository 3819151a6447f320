"""`emotion-calibrate recipe`: INT8 for the bundle of a recipe, from its own data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ...engines.bundles import load_bundle
from ..options import CalibrationOptions, Limits
from .compare import EXIT_REFUSED, print_rows, write_report
from .quantize import add_recipe_arguments


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "recipe",
        help="quantize the bundle of a recipe and gate it on the recipe's validation people",
        description="Do the steps samples, quantize and compare on the data of a recipe. The bundle"
        " with INT8 is written only if the accuracy gate allows it; otherwise the exit code is 1."
        " `emotion-train all` runs this command.",
    )
    parser.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True, help="FP32 bundle")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="bundle to write; may be --bundle"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here too")
    add_recipe_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from ...training.data import FeatureCache, load_corpus, load_noises
    from ...training.recipe_file import load_recipe
    from ..corpus_gate import quantize_for_corpus

    recipe = load_recipe(args.recipe)
    bundle = load_bundle(args.bundle)
    corpus = load_corpus(recipe, FeatureCache(recipe.cache))
    rate_hz = bundle.manifest.mel.sample_rate_hz
    noises = load_noises(Path(recipe.noise), True, rate_hz) if recipe.noise else []
    options = CalibrationOptions(args.method, args.min_agreement, args.tables)
    # Own networks may have any size: INT8 is smaller than FP32 in any case.
    limits = Limits(bytes=sys.maxsize)
    result = quantize_for_corpus(bundle, corpus, noises, args.out, options, limits)
    print_rows(result.gate.rows)
    if args.json is not None:
        write_report(args.json, bundle, result.gate, result.sizes)
    for line in result.gate.violations:
        print(f"refused: {line}", file=sys.stderr)
    if result.bundle is None:
        return EXIT_REFUSED
    print(f"{result.bundle.path}: bundle {result.bundle.sha256[:16]}")
    return 0
