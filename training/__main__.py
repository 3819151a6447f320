"""The command line `emotion-train`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from ..engines.base import EngineError
from ..engines.bundles import BundleError
from ..engines.config_file import ConfigError
from .commands import default, evaluate, export, models, prepare, train, tune, voice_activity
from .errors import DatasetError, TrainingError

COMMANDS = (prepare, train, tune, models, evaluate, default, export, voice_activity)
USER_ERRORS = (BundleError, ConfigError, DatasetError, EngineError, TrainingError)
EXIT_USER_ERROR = 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-train", description="Train the networks and score bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        args.run(args)
    except USER_ERRORS as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
