"""The command line `emotion-edge`: run, build, bundle, profile, doctor.

What only a command needs is imported when it is called: `--help` and a usage error answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .cli.build import add_build_arguments, run_build
from .cli.bundle import add_bundle_arguments, run_bundle
from .command_line import (
    ShowVersion,
    add_common_arguments,
    add_config_arguments,
    add_verbose_argument,
    build_config,
    parse_guarded,
    run_guarded,
)
from .config import Config, load_config
from .service import no_core_dumps

if TYPE_CHECKING:
    from .live import LiveRun
    from .session import Runtime
    from .sinks import Sinks

log = logging.getLogger(__name__)

RUN_EPILOG = """\
examples:
  emotion-edge run                              camera and microphone, else the demo
  emotion-edge run talk.mp4                     play a file
  emotion-edge run talk.mp4 --pace max --output jsonl:talk.jsonl
  emotion-edge run --source rtsp://camera/live  a network stream
  ffmpeg ... | emotion-edge run --source -      a pipe
  emotion-edge run --source none                a microphone alone
  emotion-edge run --output web                 a page at http://127.0.0.1:8080/
  emotion-edge run --set source.microphone=none --set output.smoothing_s=1

An estimate describes the apparent expression, never what a person feels. No image and no audio is
stored or sent, except that web.picture sends the camera's image to the page."""

ANALYZE_EPILOG = """\
examples:
  emotion-edge analyze talk.mp4
  emotion-edge analyze recordings/ --html report.html
  emotion-edge analyze one.mp4 two.wav --out results/

Nothing that exists is overwritten but an earlier report. An estimate describes the apparent
expression, never what a person feels."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="emotion-edge",
        description="Reads the apparent emotion of a face and a voice, together, in real time.",
    )
    parser.add_argument("--version", action=ShowVersion, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="read a camera and a microphone, or a file, and show estimates",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "clip",
        metavar="CLIP",
        nargs="?",
        help="a file to play, or another source; before --output",
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
        help="any of: console, jsonl:FILE, csv:FILE, summary:FILE (- as FILE is standard output),"
        " screen, serial:DEVICE, web (a page, on port 8080 of this machine) or web:PORT,"
        " mqtt://HOST[:PORT][/TOPIC], mqtts://HOST[:PORT][/TOPIC], null, or an installed plug-in",
    )
    add_build_arguments(
        commands.add_parser("build", help="prepare the networks for this machine's NVIDIA GPU")
    )
    add_bundle_arguments(
        commands.add_parser("bundle", help="install, list, roll back and sign bundles of models")
    )
    analyze = commands.add_parser(
        "analyze",
        help="read recordings and say what each was like",
        epilog=ANALYZE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    analyze.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a file or a folder")
    analyze.add_argument("--html", metavar="OUT", type=Path, help="write a page with plots")
    analyze.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="write NAME.jsonl and NAME.summary.json for each clip",
    )
    add_config_arguments(analyze)
    analyze.set_defaults(source=None)
    profile = commands.add_parser(
        "profile", help="measure and store what each quality level costs on this machine"
    )
    add_config_arguments(profile)
    profile.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    profile.set_defaults(source=None)
    settings = commands.add_parser(
        "config", help="print every setting with its meaning and its value"
    )
    add_config_arguments(settings)
    settings.add_argument(
        "--init",
        metavar="FILE",
        nargs="?",
        type=Path,
        const=Path("emotion-edge.yaml"),
        help="write them to a file instead (default: emotion-edge.yaml)",
    )
    settings.set_defaults(source=None)
    commands.add_parser("devices", help="list cameras and microphones, and how loud it is")
    doctor = commands.add_parser("doctor", help="check what a run needs and name what to do")
    doctor.add_argument("--bundle", metavar="DIR", type=Path, help="check this bundle")
    doctor.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="check what this configuration asks for (default: the service's, where there is one)",
    )
    for command in commands.choices.values():
        add_verbose_argument(command)
    return parser


def run(args: argparse.Namespace) -> int:
    from .capture import show_source
    from .sinks import open_sinks, raise_losses

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it would end a replay, or a run that starts
    config = build_config(args)
    specs = args.output or config.output.sinks
    replay = args.pace == "max"
    with no_core_dumps(os.environ), open_sinks(specs, config, replay=replay) as sinks:
        runtime = (run_to_end if replay else run_live)(config, sinks, args.seconds)
    raise_losses(sinks.recorders)
    if args.seconds is None and runtime is not None:
        runtime.require_estimates(show_source(config.source.name))
    return 0


def run_to_end(config: Config, sinks: Sinks, seconds: float | None) -> Runtime | None:
    """Replay. Return None where a reader ended it."""
    from .messages import SinkClosed
    from .replay import run_replay

    try:
        return run_replay(config, sinks.publishers, seconds, observers=sinks.observers)
    except SinkClosed:
        log.info("the reader of the output has closed it")
    return None


def run_live(config: Config, sinks: Sinks, seconds: float | None) -> Runtime | None:
    """Run in real time. Return None where something else than the source ended it."""
    from .live import LiveRun, StoppedDuringStart
    from .messages import SinkClosed

    live = LiveRun(config, sinks.publishers, **sinks.capabilities)
    handle_signals(live)
    try:
        runtime = live.run(seconds)
    except (StoppedDuringStart, SinkClosed) as stopped:
        log.info("%s", stopped)
        return None
    return runtime if live.source_ended else None


def handle_signals(live: LiveRun) -> None:
    """End the run at Ctrl-C, systemd's stop and a closed terminal, in order: the indicator off, the
    buffers wiped. Under nohup it survives the terminal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: live.stop())
    signal.signal(signal.SIGUSR1, lambda *_: live.request_trace())


def profile(args: argparse.Namespace) -> int:
    from .cli.profile import run_profile

    return run_profile(build_config(args, ["level=''"]), args.json)


def analyze(args: argparse.Namespace) -> int:
    from .cli.analyze import run_analyze

    with no_core_dumps(os.environ):
        return run_analyze(args)


def config(args: argparse.Namespace) -> int:
    from .cli.configuration import run_config

    return run_config(build_config(args), args.init)


def devices(args: argparse.Namespace) -> int:
    del args
    from .cli.devices import run_devices

    return run_devices()


def doctor(args: argparse.Namespace) -> int:
    from .doctor import run_doctor

    return run_doctor(args.bundle, load_config(args.config) if args.config else None)


COMMANDS = {
    "run": run,
    "analyze": analyze,
    "build": run_build,
    "bundle": run_bundle,
    "profile": profile,
    "config": config,
    "devices": devices,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_guarded(build_parser(), argv)
    return run_guarded(COMMANDS[args.command], args)


if __name__ == "__main__":
    sys.exit(main())
