"""What the command lines of training and calibration share: exit codes and one-line errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..engines.plain_text import log_to_stderr, make_plain

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
"""As a shell reports SIGINT."""
LIBRARIES = ("torch", "onnx", "onnxslim", "sklearn", "scipy", "tqdm", "optuna", "sqlalchemy")
"""Modules of the extra "train" that every installation of it has."""


def run_command_line(
    parser: argparse.ArgumentParser,
    user_errors: tuple[type[Exception], ...],
    argv: Sequence[str] | None,
) -> int:
    """Parse `argv`, call the command's `run` and return the exit code.

    One of `user_errors`, or a missing library of `LIBRARIES`, becomes `EXIT_USER_ERROR` with one
    line on stderr, Ctrl-C `EXIT_INTERRUPTED`. Every other exception is a bug and keeps its
    traceback.
    """
    log_to_stderr("INFO", "%(asctime)s %(message)s")
    args = parser.parse_args(argv)
    try:
        return args.run(args) or 0
    except user_errors as error:
        print(make_plain(str(error)), file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in LIBRARIES:
            raise
        print(
            f"{parser.prog} needs {library}, which is not installed:"
            " pip install 'emotion-edge[train]'",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog} {args.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
