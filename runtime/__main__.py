"""The command line `emotion-edge`: run, build, bundle, profile, doctor.

What only a command needs is imported when it is called: `--help` and a usage error answer at once.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .cli.build import add_build_arguments, run_build
from .cli.bundle import add_bundle_arguments, run_bundle
from .command_line import add_common_arguments, add_config_arguments, build_config, run_guarded
from .config import load_config

log = logging.getLogger(__name__)

RUN_EPILOG = """\
examples:
  emotion-edge run                              camera and microphone, else the demo
  emotion-edge run --source talk.mp4            play a file
  emotion-edge run --source talk.mp4 --pace max --output jsonl:talk.jsonl
  emotion-edge run --source rtsp://camera/live  a network stream
  ffmpeg ... | emotion-edge run --source -      a pipe
  emotion-edge run --source none                a microphone alone
  emotion-edge run --set source.microphone=none --set output.smoothing_s=1

An estimate describes the apparent expression, never what a person feels. No image and no audio is
stored or sent."""


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
        help="real: at the rate of a camera; max: a file as fast as possible, repeatable",
    )
    run.add_argument(
        "--output",
        metavar="SINK",
        nargs="+",
        action="extend",
        help="any of: console, jsonl:FILE, jsonl:- (standard output), screen, serial:DEVICE,"
        " mqtt://HOST[:PORT][/TOPIC], mqtts://HOST[:PORT][/TOPIC], null",
    )
    add_build_arguments(
        commands.add_parser("build", help="prepare the networks for this machine's NVIDIA GPU")
    )
    add_bundle_arguments(
        commands.add_parser("bundle", help="install, list, roll back and sign bundles of models")
    )
    profile = commands.add_parser(
        "profile", help="measure and store what each quality level costs on this machine"
    )
    add_config_arguments(profile)
    profile.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    profile.set_defaults(source=None)
    doctor = commands.add_parser("doctor", help="check what a run needs and name what to do")
    doctor.add_argument("--bundle", metavar="DIR", type=Path, help="check this bundle")
    doctor.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="check what this configuration asks for (default: the service's, where there is one)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from .capture import show_source
    from .live import LiveRun, StoppedDuringStart
    from .messages import SourceError
    from .replay import run_replay
    from .sinks import SinkClosed, open_sinks

    config = build_config(args)
    specs = args.output or config.output.sinks
    with open_sinks(specs, config) as sinks:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it would end a replay
        if args.pace == "max":
            try:
                runtime = run_replay(config, sinks.publishers, args.seconds)
            except SinkClosed:
                log.info("the reader of the output has closed it")
                return 0
        else:
            live = LiveRun(
                config,
                sinks.publishers,
                workers=sinks.workers,
                screens=sinks.screens,
                senders=sinks.senders,
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: live.stop())
            signal.signal(signal.SIGUSR1, lambda *_: live.request_trace())
            try:
                runtime = live.run(args.seconds)
            except StoppedDuringStart as stopped:
                log.info("%s", stopped)
                return 0
            if not live.source_ended:
                return 0
    if args.seconds is None and not runtime.latency.count:
        raise SourceError(
            f"source {show_source(config.source.name)} ended before the first estimate, which needs"
            " a frame or a quarter of a second of audio"
        )
    return 0


def profile(args: argparse.Namespace) -> int:
    from .cli.profile import run_profile

    return run_profile(build_config(args, ["level=''"]), args.json)


def doctor(args: argparse.Namespace) -> int:
    from .doctor import run_doctor

    return run_doctor(args.bundle, load_config(args.config) if args.config else None)


COMMANDS = {
    "run": run,
    "build": run_build,
    "bundle": run_bundle,
    "profile": profile,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_guarded(COMMANDS[args.command], args)


if __name__ == "__main__":
    sys.exit(main())
