"""`emotion-train models`: what each preset's network costs."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    models: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list the presets, and what their networks cost",
        description="MFLOPs for one input of the size the device gives; a multiplication and the"
        " addition after it are two operations.",
    )
    return models


def run(_: argparse.Namespace) -> None:
    from ..config import list_presets, load_config
    from ..launch import make_network
    from ..models.count import count_cost

    print(f"{'preset':<18} {'network':<16} {'parameters':>11} {'MFLOPs':>9}  input")
    for preset in list_presets():
        model, inputs = make_network(load_config(preset))
        cost = count_cost(model, inputs)
        shape = "x".join(str(n) for n in inputs[0].shape[1:])
        print(
            f"{preset:<18} {type(model).__name__:<16} {cost.num_parameters:>11,}"
            f" {cost.num_flops / 1e6:>9,.2f}  {shape}"
        )
