"""`emotion-train tune`: a search for better settings, shared by any number of machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.config_file import ConfigError
from ..config import dump_config
from .train import add_settings, read_settings


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a number from 1")
    return int(text)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    tune: argparse.ArgumentParser = commands.add_parser(
        "tune",
        help="search for better settings, on any number of machines",
        description="Start it as often as you like, wherever you like, with one storage and one"
        " study: together they do the trials. Trials are judged on validation people only.",
    )
    add_settings(tune)
    tune.add_argument("--trials", type=positive, default=50, help="of all machines together (50)")
    tune.add_argument(
        "--storage",
        metavar="URL",
        required=True,
        help="a database that all can reach, such as sqlite:///study.db or postgresql://host/name",
    )
    tune.add_argument("--study", metavar="NAME", help="(the preset's name)")
    return tune


def run(args: argparse.Namespace) -> None:
    config = read_settings(args)
    if not config.out:
        raise ConfigError("out is empty: give --out DIR")

    from ..search.tune import tune_network

    name = args.study or config.preset or "study"
    found, best = tune_network(config, args.trials, args.storage, name)
    file = Path(config.out) / "best.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dump_config(best))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    for key, value in found.values.items():
        print(f"{key}: {value:.6g}")
    print(
        f"{file}: validation {found.score:.4f} in trial {found.number}, the best of"
        f" {found.num_trials}"
    )
