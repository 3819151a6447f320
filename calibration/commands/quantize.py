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
    from ...training.export import check_replaceable
    from ..recipe import calibrate
    from ..samples import INPUTS, load_samples
    from ..variants import QuantizedNetwork, write_variants

    bundle = load_bundle(args.bundle)
    names = [name for name in INPUTS if name in bundle.manifest.models]
    samples = load_samples(args.samples, names)
    check_replaceable(args.out.resolve())  # before minutes of calibration, not after
    options = CalibrationOptions(args.method, args.min_agreement, args.tables)
    networks = {}
    for name in names:
        data = bundle.model_path(name).read_bytes()
        temperature = bundle.manifest.models[name].temperature
        quantized, table = calibrate(data, name, samples[name], temperature, options)
        origin = (
            f"{len(samples[name].ids)} samples of training people (sha256 {table.key.samples}),"
            f" ranges by {table.used}, {len(table.excluded)} layers kept in FP16"
        )
        metrics = {
            "agreement_on_samples": round(table.agreement, 4),
            "divergence_on_samples": round(table.divergence, 5),
            "spared_layers": table.excluded,
        }
        networks[name] = QuantizedNetwork(quantized, origin, metrics)
        print(
            f"{name}: {len(data)} -> {len(quantized)} bytes, ranges by {table.used},"
            f" {len(table.excluded)} layers kept in FP16,"
            f" agreement {table.agreement:.4f} on the samples"
        )
    written = write_variants(bundle, args.out, networks)
    print(f"{written.path}: bundle {written.sha256[:16]}")
    return 0
