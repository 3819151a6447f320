"""Options, exit codes and error reports that the command lines of the runtime share.

In: parsed arguments. Out: the configuration of a run, and the exit code of a command.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..engines.base import EngineError
from ..engines.bundles import BundleError
from ..engines.config_file import quote
from ..engines.plain_text import log_to_stderr, make_plain
from ..kernels import PreprocessorError
from .config import Config, ConfigError, load_config
from .messages import ListenError, OutputError, SourceError
from .service import IndicatorError, add_set_argument

EXIT_USAGE = 2
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130
"""As a shell reports SIGINT."""
ENVIRONMENT_ERRORS = (
    BundleError,
    SourceError,
    OutputError,
    EngineError,
    PreprocessorError,
    IndicatorError,
    ListenError,
)
"""Faults of a file, a device or a port that was given. They may be gone at the next start."""

SYSTEM_FAULTS = frozenset(
    {
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EBUSY,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENXIO,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""Errors of the system that have nothing to do with what was asked for."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `run` and `emotion-bench` share."""
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="camera, /dev/videoN, none (a microphone alone), demo, a file or FIFO, - (standard"
        " input), or a URL: rtsp, rtsps, http, https, udp (default: auto)",
    )
    add_config_arguments(parser)
    parser.add_argument("--seconds", metavar="N", type=positive, help="stop after this long")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that reads a configuration."""
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="models to use (default: the configuration's, else the current installed bundle,"
        " else the shipped one)",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML configuration")
    add_set_argument(parser)


def add_verbose_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="log what happens; twice: everything (EMOTION_EDGE_LOG has the same levels)",
    )


class ShowVersion(argparse.Action):
    """Print the version, which is looked up only then."""

    def __init__(self, option_strings: Sequence[str], **options: Any) -> None:
        super().__init__(option_strings, **{**options, "dest": argparse.SUPPRESS, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{parser.prog} {version('emotion-edge')}\n")
        parser.exit()


def parse_guarded(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> Any:
    """Parse the arguments. Where `--help` or `--version` loses its reader, the exit code is 0."""
    try:
        return parser.parse_args(argv)
    except SystemExit:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _reader_has_gone()
        raise


def positive(text: str) -> float:
    """Parse a positive number of an option. Raises ArgumentTypeError."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def build_config(
    args: argparse.Namespace, fixed: Sequence[str] = (), default_source: str | None = None
) -> Config:
    """Merge the configuration file, `--set`, `fixed` settings and the named options, later ones
    first. Raises ConfigError."""
    settings = [*args.settings, *fixed]
    clip = getattr(args, "clip", None)
    if clip is not None and args.source is not None:
        raise ConfigError(f"two sources: {clip!r} and --source {args.source!r}")
    source = args.source if args.source is not None else clip or default_source
    if source is not None:
        settings.append(f"source.name={quote(source)}")
    if args.bundle is not None:
        settings.append(f"bundle={quote(args.bundle)}")
    return load_config(args.config, settings)


def run_guarded(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and return its exit code.

    A ConfigError becomes `EXIT_USAGE`, one of `ENVIRONMENT_ERRORS` becomes `EXIT_ENVIRONMENT`, each
    with one line on stderr. So does a ConfigError, or an OSError, that comes of a fault of the
    system: a disk that cannot be read is no usage error, after which systemd would not try again. A
    reader that closes standard output ends the command with 0. Every other exception is a bug and
    keeps its traceback.
    """
    level = os.environ.get("EMOTION_EDGE_LOG", "WARNING").upper()
    verbose = getattr(args, "verbose", 0)
    if verbose:
        level = "INFO" if verbose == 1 else "DEBUG"
    if not isinstance(logging.getLevelName(level), int):
        text = f"EMOTION_EDGE_LOG is {level}, allowed: DEBUG, INFO, WARNING, ERROR"
        print(make_plain(text), file=sys.stderr)
        return EXIT_USAGE
    log_to_stderr(level, "%(levelname)s %(name)s: %(message)s")
    interrupt = signal.getsignal(signal.SIGINT)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        if interrupt is signal.SIG_DFL:  # see `entry`
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        return 0
    except (ConfigError, *ENVIRONMENT_ERRORS) as error:
        print(make_plain(str(error)), file=sys.stderr)
        is_usage = isinstance(error, ConfigError) and not _is_fault(error.__cause__)
        return EXIT_USAGE if is_usage else EXIT_ENVIRONMENT
    except OSError as error:
        if not _is_fault(error):
            raise
        print(make_plain(str(error)), file=sys.stderr)
        return EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, interrupt)


def _is_fault(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in SYSTEM_FAULTS


def _reader_has_gone() -> bool:
    """Return whether standard output has lost its reader, as after `| head -1`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    gone = any(events & select.POLLERR for _, events in poll.poll(0))
    if gone:
        from .sinks.console import drop_unwritten

        drop_unwritten(sys.stdout)
    return gone
