"""The command line `emotion-edge`: run, build, bundle, profile, doctor."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..engines.base import EngineError
from ..engines.bundles import BundleError
from ..kernels import PreprocessorError
from .cli.build import add_build_arguments, run_build
from .cli.bundle import add_bundle_arguments, run_bundle
from .config import Config, ConfigError, load_config
from .messages import SourceError
from .service import IndicatorError, add_set_argument

log = logging.getLogger(__name__)

ENVIRONMENT_ERRORS = (BundleError, SourceError, EngineError, PreprocessorError, IndicatorError)
"""Something that was given or is connected is not as it must be; another start may find it so. One
line, like a ConfigError. All else is ours and shows its trace."""
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 4

RUN_EPILOG = """\
examples:
  emotion-edge run                              camera and microphone, else the demo
  emotion-edge run --source talk.mp4            play a file
  emotion-edge run --source talk.mp4 --pace max --output jsonl:talk.jsonl
  emotion-edge run --set source.microphone=none --set output.smoothing_s=1

An estimate is about the apparent expression, never about what a person feels. No picture or sound
is stored or sent."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What `run` and `emotion-bench` share."""
    parser.add_argument("--source", help="camera, /dev/videoN, demo or a file (default: auto)")
    add_config_arguments(parser)
    parser.add_argument("--seconds", metavar="N", type=positive, help="stop after this long")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """What everything shares that is configured."""
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="models to use (default: the configuration's, else the installed ones that are chosen,"
        " else those that ship)",
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML configuration")
    add_set_argument(parser)


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def build_config(
    args: argparse.Namespace, fixed: Sequence[str] = (), default_source: str | None = None
) -> Config:
    """The configuration file, then `--set`, then the options that have a name of their own."""
    settings = [*args.settings, *fixed]
    source = args.source if args.source is not None else default_source
    if source is not None:
        settings.append(f"source.name={quote(source)}")
    if args.bundle is not None:
        settings.append(f"bundle={quote(args.bundle)}")
    return load_config(args.config, settings)


def quote(text: str) -> str:
    """As a YAML string, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-edge",
        description="Reads the apparent emotion of a face and a voice, together, in real time.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="read a camera and a microphone, or a file, and show estimates",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(run)
    run.add_argument(
        "--pace",
        choices=("real", "max"),
        default="real",
        help="real: as a camera would see it; max: a file as fast as possible, repeatable",
    )
    run.add_argument(
        "--output",
        metavar="SINK",
        nargs="+",
        action="extend",
        help="any of: console, jsonl:FILE, jsonl:- (standard output), screen, serial:DEVICE, null",
    )
    add_build_arguments(
        commands.add_parser("build", help="prepare the networks for this machine's NVIDIA GPU")
    )
    add_bundle_arguments(
        commands.add_parser("bundle", help="install, list, roll back and sign bundles of models")
    )
    profile = commands.add_parser(
        "profile", help="measure what each quality level costs on this machine, and keep it"
    )
    add_config_arguments(profile)
    profile.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    profile.set_defaults(source=None)
    doctor = commands.add_parser("doctor", help="check what a run needs and say what to do")
    doctor.add_argument("--bundle", metavar="DIR", type=Path, help="check this bundle")
    doctor.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="check what this configuration asks for (default: the service's, where there is one)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    # Imported here, so that --help and a mistyped option answer at once.
    from .live import LiveRun, StoppedDuringStart
    from .replay import run_replay
    from .sinks import SinkClosed, open_sink

    config = build_config(args)
    specs = args.output or config.output.sinks
    with ExitStack() as stack:
        sinks = []
        for spec in specs:
            try:
                sink = open_sink(spec, config)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            stack.callback(sink.close)
            sinks.append(sink)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it would end a replay
        if args.pace == "max":
            try:
                run_replay(config, sinks, args.seconds)
            except SinkClosed:
                log.info("nobody reads the output any more")
        else:
            live = LiveRun(config, sinks)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: live.stop())
            signal.signal(signal.SIGUSR1, lambda *_: live.request_trace())
            try:
                live.run(args.seconds)
            except StoppedDuringStart as stopped:
                log.info("%s", stopped)
    return 0


def profile(args: argparse.Namespace) -> int:
    from .cli.profile import run_profile

    return run_profile(build_config(args, ["level=''"]), args.json)


def doctor(args: argparse.Namespace) -> int:
    from .doctor.report import run_doctor

    return run_doctor(args.bundle, load_config(args.config) if args.config else None)


def run_guarded(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command; what people can mend becomes one line on stderr and an exit code: 2 for what
    the program was told, 4 for what it found."""
    level = os.environ.get("EMOTION_EDGE_LOG", "WARNING").upper()
    if not isinstance(logging.getLevelName(level), int):
        print(f"EMOTION_EDGE_LOG is {level}, allowed: DEBUG, INFO, WARNING, ERROR", file=sys.stderr)
        return EXIT_USAGE
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        return command(args)
    except (ConfigError, *ENVIRONMENT_ERRORS) as error:
        print(f"{' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        return 130


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    commands = {
        "run": run,
        "build": run_build,
        "bundle": run_bundle,
        "profile": profile,
        "doctor": doctor,
    }
    return run_guarded(commands[args.command], args)


if __name__ == "__main__":
    sys.exit(main())
