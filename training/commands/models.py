"""`emotion-train models`: cost of the network of each preset."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> argparse.ArgumentParser:
    models: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list the presets and the cost of their networks",
        description="MFLOPs are of one input of the device's size; a multiplication and the"
        " addition after it are two FLOPs.",
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
