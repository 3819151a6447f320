"""`emotion-edge build`: build the TensorRT engines of a run in advance, and verify them.

In: a bundle. Out: engines in the cache, and one line for each. A build takes minutes on a small
board, once for each bundle and each version of TensorRT.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from ...engines.base import EngineError
from ...engines.bundles import Bundle, choose_bundle
from ...engines.tensorrt import BuildOptions, find_cache_folder, load_tensorrt, open_gpu
from ..clock import MonotonicClock
from ..config import ConfigError, load_config
from ..service import Watchdog, add_config_argument, drop_privileges_to, find_service_config


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle", metavar="DIR", type=Path, help="models to build (default: those of a run)"
    )
    add_config_argument(parser)
    precision = parser.add_mutually_exclusive_group()
    for name in ("fp16", "int8", "fp32"):
        precision.add_argument(
            f"--{name}",
            action="store_const",
            const=name,
            dest="precision",
            help=f"compute in {name.upper()} (default: the precision of each level, else FP16)",
        )
    parser.add_argument(
        "--level",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        dest="levels",
        help="only the face sizes of these quality levels and the best (default: all)",
    )
    parser.add_argument("--dla", metavar="N", type=int, help="use this deep-learning accelerator")
    parser.add_argument(
        "--force", action="store_true", help="build even if an engine is up to date"
    )


def run_build(args: argparse.Namespace) -> int:
    """Build and verify each engine. Raises BundleError, ConfigError and EngineError."""
    config = load_config(args.config or find_service_config())
    drop_privileges_to(find_cache_folder().parent)
    bundle = choose_bundle(str(args.bundle or config.bundle), config.public_key).bundle
    _check_levels(bundle, args.levels)
    from ...engines import check_precision
    from ...engines.golden import check_golden_output
    from ...engines.tensorrt.engine import open_tensorrt

    try:
        load_tensorrt()
        open_gpu()
    except EngineError as error:
        raise EngineError(f"{error}; ONNX Runtime needs no build") from error
    from ..session import report_build_progress

    options = BuildOptions(tuple(args.levels), args.dla)
    with Watchdog(MonotonicClock()) as watchdog:

        def report(text: str) -> None:
            report_build_progress(text, watchdog)

        num_built = 0
        precisions = [args.precision] if args.precision else _list_precisions(bundle, args.levels)
        for precision, network in product(precisions, bundle.manifest.models):
            try:
                check_precision(bundle, network, precision)
            except EngineError as error:
                if args.precision:
                    raise
                print(f"{network:<6} {precision:<5} skipped: {error}")
                continue
            with open_tensorrt(bundle, network, precision, options, report, args.force) as engine:
                check_golden_output(engine, bundle, network)
                seconds = engine.build_seconds
                state = f"built in {seconds:.0f} s" if seconds else "up to date"
                sizes = ", ".join("x".join(map(str, shape)) for shape in engine.shapes)
                file = engine.file or "not stored"
                print(f"{network:<6} {precision:<5} {sizes}  {state}  {file}")
                num_built += seconds > 0
    if not num_built:
        print("up to date")
    return 0


def _list_precisions(bundle: Bundle, levels: list[str]) -> list[str]:
    """Return the precisions of TensorRT that a run uses at these levels, or at all of them."""
    chosen = [level for level in bundle.manifest.levels if not levels or level.name in levels]
    precisions = ["fp16" if level.precision == "auto" else level.precision for level in chosen]
    return list(dict.fromkeys(precisions))


def _check_levels(bundle: Bundle, requested: list[str]) -> None:
    names = [level.name for level in bundle.manifest.levels]
    for name in requested:
        if name not in names:
            raise ConfigError(f"--level {name!r}: allowed: {', '.join(names)}")
