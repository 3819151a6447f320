"""The command line `emotion-train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..engines.base import EngineError
from ..engines.bundles import BundleError
from ..engines.config_file import ConfigError
from .command_line import run_command_line
from .commands import (
    all_steps,
    evaluate,
    export,
    face_detector,
    models,
    new,
    prepare,
    toy,
    train,
    tune,
    voice_activity,
)
from .errors import DatasetError, TrainingError

COMMANDS = (
    toy,
    new,
    all_steps,
    prepare,
    train,
    tune,
    models,
    evaluate,
    export,
    face_detector,
    voice_activity,
)
USER_ERRORS = (BundleError, ConfigError, DatasetError, EngineError, TrainingError)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-train", description="Train the networks and score bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands).set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run_command_line(build_parser(), USER_ERRORS, argv)


if __name__ == "__main__":
    sys.exit(main())
