"""Checkpoints: written atomically, read without executing their content.

In: a dictionary of tensors, numbers and texts. Out: a file of `torch.save`. Files are read with
`weights_only=True`; a plain pickle is refused unread. Each file names its run (`describe_run`),
and only the same run can resume from it.
"""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...engines.storage import atomic_write
from ..errors import CheckpointError

log = logging.getLogger(__name__)

FEATURES = "features."
"""Prefix of the weights that networks of the same architecture share, whatever they classify."""
WEIGHTS, NETWORK = "weights", "network"
"""Keys of a file of weights with a description."""
FORMAT_VERSION = 2
"""Version 1 had no description of the run."""
_ZIP_MAGIC = b"PK\x03\x04"
_UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
"""Exceptions of torch for a damaged file, depending on where the damage is."""


def describe_run(model: nn.Module, settings: Mapping[str, object]) -> dict[str, str]:
    """Return what a checkpoint and the run that resumes from it must share, as texts by name: the
    network, the shape of every weight, and the `settings` (schedule, recipe, labels)."""
    shapes = {name: str(tuple(value.shape)) for name, value in model.state_dict().items()}
    return {"network": type(model).__name__} | {k: str(v) for k, v in settings.items()} | shapes


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the checkpoint atomically; on an error the previous file is unchanged.

    Raises CheckpointError when it cannot be written (a full disk, a folder without permission).
    """
    _save(path, {**state, "format": FORMAT_VERSION})


def save_weights(
    path: Path, model: nn.Module, description: Mapping[str, Any] | None = None
) -> None:
    """Write the state dictionary of `model` in the same way, and the description of the network
    (texts, numbers and lists) if there is one."""
    weights = model.state_dict()
    _save(path, weights if description is None else {WEIGHTS: weights, NETWORK: description})


def read_description(path: Path) -> dict[str, Any] | None:
    """Return the description that `save_weights` wrote; None if the file has none. Raises
    CheckpointError."""
    state = _read(path)
    description = state.get(NETWORK) if WEIGHTS in state else None
    return description if isinstance(description, dict) else None


def _save(path: Path, content: Mapping[str, Any]) -> None:
    # In memory first: torch reports a full disk as an error about file positions.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, buffer.getvalue())
    except OSError as error:
        previous = "; the previous file is unchanged" if path.exists() else ""
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}{previous}") from error


def load_checkpoint(path: Path, run: Mapping[str, str]) -> dict[str, Any]:
    """Return the state that the same `run` (see `describe_run`) saved, on the CPU.

    Raises CheckpointError when the file is damaged, not a checkpoint, or of another run.
    """
    state = _read(path)
    found, version = state.get("run"), state.get("format")
    if version != FORMAT_VERSION or not isinstance(found, dict):
        raise CheckpointError(
            f"{path}: has format {version}, this program reads {FORMAT_VERSION}; delete it or"
            " train into another folder"
        )
    different = [name for name in {**run, **found} if run.get(name) != found.get(name)]
    if different:
        name = different[0]
        others = f" ({len(different) - 1} more differ)" if len(different) > 1 else ""
        raise CheckpointError(
            f"{path}: of another run: {name} is {found.get(name, 'missing')}, only"
            f" {run.get(name, 'none')} can go on here{others}; delete it or train into another"
            " folder"
        )
    return state


def read_curves(path: Path) -> dict[str, list[float | None]]:
    """Return the loss and the validation score of each epoch of a checkpoint. Raises
    CheckpointError."""
    state = _read(path)
    return {"loss": state.get("losses", []), "validation": state.get("scores", [])}


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the weights of `path` into `model`: a state dictionary, or the averaged weights of a
    checkpoint. Raises CheckpointError when they do not fit."""
    _load_all(path, _read_weights(path), model)


def load_initial_weights(path: Path, model: nn.Module) -> None:
    """Load weights to start a training from: those that `load_weights` takes, or those of a network
    with the same "features", such as torchvision's EfficientNet-B0 trained on ImageNet.

    Of the latter every weight of the same name and shape is loaded, and the others are logged.
    Raises CheckpointError when the features differ or there are none.
    """
    weights, wanted = _read_weights(path), model.state_dict()
    features = [name for name in wanted if name.startswith(FEATURES)]
    fits = {name for name in wanted if _shape(weights.get(name)) == _shape(wanted[name])}
    if not features or not fits.issuperset(features):
        _load_all(path, weights, model)
        return
    model.load_state_dict({name: weights[name] for name in fits}, strict=False)
    left_out = [name for name in weights if name not in fits]
    untouched = [name for name in wanted if name not in fits]
    if left_out or untouched:
        log.warning(
            "%s: left out %s; %s start at random",
            path,
            ", ".join(left_out) or "nothing",
            ", ".join(untouched) or "no weights",
        )


def _load_all(path: Path, weights: dict[str, Any], model: nn.Module) -> None:
    wanted = model.state_dict()
    for name in {**wanted, **weights}:
        have, want = _shape(weights.get(name)), _shape(wanted.get(name))
        if have != want:
            raise CheckpointError(
                f"{path}: weights of another network: {name} is {have}, {type(model).__name__}"
                f" takes {want}"
            )
    model.load_state_dict(weights)


def _read_weights(path: Path) -> dict[str, Any]:
    state = _read(path)
    weights = state["ema"] if "format" in state and "ema" in state else state
    if WEIGHTS in state and NETWORK in state:
        weights = state[WEIGHTS]
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path}: holds no weights")
    return dict(weights)


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else "missing"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_ZIP_MAGIC))
            if magic != _ZIP_MAGIC:
                raise CheckpointError(
                    f"{path}: not a checkpoint; allowed: files of torch.save, never a pickle"
                )
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except CheckpointError:
        raise
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path}: damaged, or holds objects other than weights, which are never loaded"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a dictionary")
    return state
