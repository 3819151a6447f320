"""`emotion-calibrate quantize`: a bundle with INT8 networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.bundles import load_bundle
from ..options import METHODS, MIN_AGREEMENT, CalibrationOptions


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that quantizes."""
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="how to choose the quantization ranges. auto (default): the method with the least"
        " divergence of those that use histograms; where that agrees too little, answer, which"
        " measures the network's output for each range of each tensor",
    )
    parser.add_argument(
        "--min-agreement",
        type=share,
        default=MIN_AGREEMENT,
        metavar="SHARE",
        help="smallest share of samples with the same predicted label as FP32; the most sensitive"
        f" layers are kept in FP16 until it is reached (default: {MIN_AGREEMENT})",
    )
    parser.add_argument(
        "--tables", metavar="DIR", type=Path, help="read and write calibration tables here"
    )


def share(text: str) -> float:
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "quantize",
        help="write a bundle with INT8 networks beside its own",
        description="Insert explicit quantize and dequantize operators, which TensorRT and ONNX"
        " Runtime read: weights per channel, activations symmetric per tensor.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True, help="bundle to read")
    parser.add_argument(
        "--samples", metavar="FILE", type=Path, required=True, help="file of the command samples"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="bundle to write")
    add_recipe_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from ..quantized_bundle import list_quantizable, quantize_bundle
    from ..samples import load_samples

    bundle = load_bundle(args.bundle)
    samples = load_samples(args.samples, list_quantizable(bundle))
    options = CalibrationOptions(args.method, args.min_agreement, args.tables)
    written = quantize_bundle(bundle, samples, args.out, options)
    print(f"{written.path}: bundle {written.sha256[:16]}")
    return 0
