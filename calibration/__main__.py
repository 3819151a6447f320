"""The command line `emotion-calibrate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..engines.base import EngineError
from ..engines.bundles import BundleError
from ..engines.config_file import ConfigError
from ..training.command_line import run_command_line
from ..training.errors import DatasetError, TrainingError
from .commands import compare, folds, quantize, recipe, samples, sensitivity
from .errors import CalibrationError

COMMANDS = (recipe, samples, quantize, sensitivity, compare, folds)
USER_ERRORS = (BundleError, CalibrationError, ConfigError, DatasetError, EngineError, TrainingError)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-calibrate",
        description="Quantize a bundle's networks to INT8 and measure what that costs in accuracy.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command_line(build_parser(), USER_ERRORS, argv)


if __name__ == "__main__":
    sys.exit(main())
