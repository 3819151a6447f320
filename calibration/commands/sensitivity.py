"""`emotion-calibrate sensitivity`: a network's layers ranked by quantization sensitivity."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.bundles import MODALITIES, load_bundle
from ..errors import CalibrationError
from ..options import PLAIN_METHODS


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "sensitivity",
        help="rank a network's layers by quantization sensitivity",
        description="Quantize each layer alone and measure the divergence (nats) of the output from"
        " FP32. The lines are: divergence, divergence per weight, layer. Their order is that in"
        " which `quantize` keeps layers in FP16.",
    )
    parser.add_argument("--bundle", metavar="DIR", type=Path, required=True, help="bundle to read")
    parser.add_argument(
        "--samples", metavar="FILE", type=Path, required=True, help="file of the command samples"
    )
    parser.add_argument("--network", choices=MODALITIES, default="face")
    parser.add_argument("--method", choices=(*PLAIN_METHODS, "answer"), default="answer")
    parser.add_argument(
        "--top", metavar="N", type=int, default=20, help="number of layers to print (default: 20)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from ..quantize import read_network
    from ..ranges import choose_range, collect_histograms, find_weighted
    from ..recipe import BATCH, NUM_SEARCHED
    from ..samples import load_samples
    from ..sensitivity import open_probe, rank_layers, search_ranges

    bundle = load_bundle(args.bundle)
    if args.network not in bundle.manifest.models:
        raise CalibrationError(f"{args.bundle}: holds no {args.network} network")
    samples = load_samples(args.samples, [args.network])[args.network]
    data = bundle.read_model(args.network)
    model = read_network(data, args.network)
    temperature = bundle.manifest.models[args.network].temperature
    probe = open_probe(model, samples.batches(BATCH, NUM_SEARCHED), temperature)
    tensors = sorted(set(find_weighted(model).values()))
    histograms = collect_histograms(model, tensors, samples.batches(BATCH))
    if args.method == "answer":
        ranges = search_ranges(probe, histograms)
    else:
        ranges = {
            name: choose_range(histogram, args.method) for name, histogram in histograms.items()
        }
    for layer in rank_layers(probe, ranges)[: args.top]:
        print(f"{layer.divergence:.5f} {layer.loss_per_weight:9.2e}  {layer.name}")
    return 0
