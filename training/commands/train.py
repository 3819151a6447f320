"""`emotion-train train`: train one network from a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ...engines.config_file import ConfigError
from ..config import AnyConfig, VoiceConfig, load_config
from .all_steps import run_until
from .prepare import CACHE

if TYPE_CHECKING:
    from ..models.count import Cost

PATH_OPTIONS = ("root", "out", "cache")
MAX_SAMPLES = 64


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that define a configuration; `read_config` reads them."""
    parser.add_argument(
        "--preset", metavar="NAME", help="preset; `emotion-train models` lists them"
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="YAML file that overrides the preset"
    )
    parser.add_argument(
        "--set", metavar="A.B=VALUE", action="append", default=[], help="set a key, overriding both"
    )
    parser.add_argument("--root", metavar="DIR", type=Path, help="folder of FER+ or RAVDESS")
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder of checkpoints and results")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help=f"cache filled by `emotion-train prepare` (default: {CACHE}, if it exists)",
    )
    parser.add_argument(
        "--fold",
        type=int,
        choices=range(4),
        help="fold of RAVDESS (default: train on all actors found, without validation)",
    )


def read_config(args: argparse.Namespace) -> AnyConfig:
    """Load the configuration that the options define."""
    config = load_config(args.preset, args.config, args.set)
    # Not like --set: a path need not be YAML.
    paths = {name: str(getattr(args, name)) for name in PATH_OPTIONS if getattr(args, name)}
    config = msgspec.structs.replace(config, **paths)
    if not config.cache and CACHE.is_dir():
        config = msgspec.structs.replace(config, cache=str(CACHE))
    if args.fold is not None:
        if not isinstance(config, VoiceConfig):
            raise ConfigError(f"--fold {args.fold}: only for task voice")
        config = msgspec.structs.replace(config, fold=args.fold)
    return config


def describe_cost(cost: Cost) -> str:
    """Return parameters and MFLOPs as text."""
    return f"{cost.num_parameters:,} parameters, {cost.num_flops / 1e6:,.1f} MFLOPs for one input"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    train: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train the networks of a recipe, or one network from a configuration",
        description="With RECIPE: the same as `emotion-train all RECIPE --until train`. Without:"
        " one network. A repeated start resumes from the last checkpoint. Under torchrun it uses"
        " several GPUs or machines.",
    )
    train.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help="recipe.yaml")
    add_settings(train)
    train.add_argument(
        "--init-from",
        metavar="FILE",
        type=Path,
        help="weights to start from: a face or voice network, or torchvision's EfficientNet-B0",
    )
    train.add_argument("--log-dir", metavar="DIR", type=Path, help="folder of TensorBoard curves")
    train.add_argument(
        "--log-samples",
        metavar="N",
        type=int,
        choices=range(1, MAX_SAMPLES + 1),
        help=f"write N faces or log-mels of each epoch, as augmented, to --log-dir (1 to"
        f" {MAX_SAMPLES}); they show the people of the data set",
    )
    return train


def run(args: argparse.Namespace) -> None:
    if args.recipe is not None:
        names = ("preset", "config", "root", "out", "cache", "fold", "init_from", "log_dir")
        given = [name for name in names if getattr(args, name) is not None]
        if given:
            option = given[0].replace("_", "-")
            raise ConfigError(f"--{option}: not with a recipe, which says it")
        run_until(args.recipe, args.set, "train")
        return
    config = read_config(args)
    if args.log_samples and args.log_dir is None:
        raise ConfigError(f"--log-samples {args.log_samples}: only with --log-dir")

    from ..launch import make_network, prepare_data, save_result, train_network
    from ..loop.distributed import read_process_group
    from ..models.count import count_cost

    is_main = read_process_group().is_main
    if is_main:
        print(f"{config.preset or args.config}: {describe_cost(count_cost(*make_network(config)))}")
    data = prepare_data(config)
    samples = args.log_samples or 0
    trained = train_network(config, data, args.log_dir, args.init_from, num_samples=samples)
    if is_main:
        score = "without data" if trained.score is None else f"{trained.score:.4f}"
        path = save_result(config, trained)
        print(f"{path}: validation {score}, {trained.num_epochs} epochs")
