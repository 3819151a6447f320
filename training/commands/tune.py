"""`emotion-train tune`: hyperparameter search by any number of machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...engines.config_file import ConfigError
from ..config import dump_config
from .train import add_settings, read_config


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    tune: argparse.ArgumentParser = commands.add_parser(
        "tune",
        help="search hyperparameters on any number of machines",
        description="Start any number of processes with the same storage and study: together they"
        " run the trials. Trials are scored on validation data only.",
    )
    add_settings(tune)
    tune.add_argument(
        "--trials",
        type=positive,
        default=50,
        help="number of trials of all machines together (default: 50)",
    )
    tune.add_argument(
        "--storage",
        metavar="URL",
        required=True,
        help="database, for example sqlite:///study.db or postgresql://host/name",
    )
    tune.add_argument(
        "--study", metavar="NAME", help="name of the study (default: that of the preset)"
    )
    return tune


def run(args: argparse.Namespace) -> None:
    config = read_config(args)
    if not config.out:
        raise ConfigError("out is empty: give --out DIR")

    from ..search.tune import tune_network

    name = args.study or config.preset or "study"
    trial, best = tune_network(config, args.trials, args.storage, name)
    file = Path(config.out) / "best.yaml"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dump_config(best))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    for key, value in trial.values.items():
        print(f"{key}: {value:.6g}")
    print(
        f"{file}: validation {trial.score:.4f} in trial {trial.number}, the best of"
        f" {trial.num_trials}"
    )
