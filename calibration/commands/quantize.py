"""`emotion-calibrate quantize`: a bundle with its networks at 8 bits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.bundles import load_bundle
from ...training.export import check_replaceable
from ..ranges import METHODS
from ..recipe import MIN_AGREEMENT, CalibrationOptions, calibrate
from ..samples import INPUTS, load_samples
from ..variants import QuantizedNetwork, write_variants


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that quantises shares."""
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="how ranges are chosen; auto: the plain one that changes the answers least, and"
        " answer, which asks the network about each tensor, where that is too much",
    )
    parser.add_argument(
        "--min-agreement",
        type=share,
        default=MIN_AGREEMENT,
        metavar="SHARE",
        help=f"of samples with the same answer as at 32 bits; the layers that change most are"
        f" spared until it is reached ({MIN_AGREEMENT})",
    )
    parser.add_argument("--tables", metavar="DIR", type=Path, help="keep what was decided here")


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "quantize",
        help="write a bundle with 8-bit networks beside its own",
        description="Explicit quantise and dequantise operators, as TensorRT and ONNX Runtime"
        " read them: weights per channel, activations symmetric per tensor.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True)
    parser.add_argument("--samples", metavar="FILE", type=Path, required=True)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    add_recipe_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    bundle = load_bundle(args.bundle)
    names = [name for name in INPUTS if name in bundle.manifest.models]
    samples = load_samples(args.samples, names)
    check_replaceable(args.out.resolve())  # minutes from now it would be too late
    options = CalibrationOptions(args.method, args.min_agreement, args.tables)
    made = {}
    for name in names:
        data = bundle.model_path(name).read_bytes()
        temperature = bundle.manifest.models[name].temperature
        quantized, table = calibrate(data, name, samples[name], temperature, options)
        origin = (
            f"{len(samples[name].ids)} samples of training people (sha256 {table.key.samples}),"
            f" ranges by {table.used}, {len(table.spared)} layers spared"
        )
        metrics = {
            "agreement_on_samples": round(table.agreement, 4),
            "divergence_on_samples": round(table.divergence, 5),
            "spared_layers": table.spared,
        }
        made[name] = QuantizedNetwork(quantized, origin, metrics)
        print(
            f"{name}: {len(data)} -> {len(quantized)} bytes, ranges by {table.used},"
            f" {len(table.spared)} layers spared, agreement {table.agreement:.4f} on the samples"
        )
    written = write_variants(bundle, args.out, made)
    print(f"{written.path}: bundle {written.sha256[:16]}")
    return 0
