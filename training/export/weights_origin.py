"""The origin of trained weights: the JSON beside them in, entries of a bundle's provenance out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .provenance import UNKNOWN, DataSet, describe_data_sets, describe_people

PATHS = ("root", "out", "cache", "noise")
"""Settings that hold paths, which a bundle does not."""


def read_origin(weights: Path) -> dict[str, Any]:
    """Return what training has written beside the file of weights, nothing where there is no such
    file. Raises CheckpointError."""
    file = weights.with_suffix(".json")
    try:
        origin = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: not the description of weights: {error}") from error
    if not isinstance(origin, dict):
        raise CheckpointError(f"{file}: not the description of weights")
    return origin


def describe_training(origins: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return settings, data sets and people of each network, as far as its origin states them."""
    settings = {}
    people = {}
    used: dict[DataSet, list[str]] = {}
    for name, origin in origins.items():
        config = origin.get("config")
        if isinstance(config, Mapping):
            settings[name] = {key: config[key] for key in config if key not in PATHS}
        if isinstance(origin.get("people"), Mapping):
            people[name] = origin["people"]
        for row in origin.get("data_sets") or [asdict(UNKNOWN)]:
            stated = (str(row.get(key, "unknown")) for key in ("name", "licence", "source"))
            used.setdefault(DataSet(*stated), []).append(name)
    known = set(used) != {UNKNOWN}
    return {
        **settings,
        **({"data_sets": describe_data_sets(used)} if known else {}),
        **(describe_people(people) if people else {}),
    }
