"""Files of weights that say how to rebuild their network.

In: a network and its `NetworkDescription`. Out: a file, and from it the same network again. Files
without a description, which earlier versions wrote, are tried as the default networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import nn

from ..engines.bundles import LABELS, are_labels
from ..kernels.spec import ImageSpec, MelSpec
from .data import EMOTION_GROUPS, EMOTIONS8
from .errors import CheckpointError
from .loop import load_weights, read_description, save_weights
from .models import FaceNet, VoiceNet, check_groups
from .recipes import build_fusion

Task = Literal["face", "voice", "fusion"]
DEFAULT_SIZES_PX = (48, 64, 80, 96, 112)
"""Those that the default face network is trained on."""


class NetworkDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What rebuilds a network and exports it."""

    task: Task
    labels: tuple[str, ...]
    """Those of the bundle."""
    outputs: tuple[str, ...] = ()
    """What the network itself tells apart; the labels if empty."""
    groups: tuple[int, ...] = ()
    """Index of the label of each output."""
    settings: dict[str, Any] = {}
    """Arguments of the network's class; of fusion, its kind."""
    sizes_px: tuple[int, ...] = ()
    """Sides of the images that a face network was trained on."""
    image: ImageSpec = ImageSpec()
    """Of the face network."""
    mel: MelSpec = MelSpec()
    """Of the voice network."""

    @property
    def merges(self) -> bool:
        """Whether outputs are merged into labels."""
        return bool(self.groups) and self.groups != tuple(range(len(self.labels)))


DEFAULTS: Mapping[str, tuple[NetworkDescription, ...]] = {
    "face": (NetworkDescription("face", LABELS, sizes_px=DEFAULT_SIZES_PX),),
    "voice": (
        NetworkDescription("voice", LABELS),
        NetworkDescription("voice", LABELS, EMOTIONS8, EMOTION_GROUPS),
    ),
    "fusion": (
        NetworkDescription("fusion", LABELS, settings={"kind": "attention"}),
        NetworkDescription("fusion", LABELS, settings={"kind": "channel"}),
    ),
}
"""What a file without a description may hold."""


def build_network(description: NetworkDescription) -> nn.Module:
    """Build the untrained network. Raises ValueError or TypeError for settings that it lacks."""
    outputs = description.outputs or description.labels
    check_groups(description.groups or range(len(outputs)), len(description.labels))
    settings = dict(description.settings)
    if description.task == "face":
        return FaceNet(len(outputs), **settings)
    if description.task == "voice":
        return VoiceNet(len(outputs), description.mel.num_mels, **settings)
    return build_fusion(settings["kind"], len(outputs))


def save_network(path: Path, model: nn.Module, description: NetworkDescription) -> None:
    """Write weights and description. Raises CheckpointError."""
    save_weights(path, model, msgspec.to_builtins(description))


def load_network(path: Path, task: str) -> tuple[Any, NetworkDescription]:
    """Rebuild the network of `path`, on the CPU, and its description. `task` is one of `Task`.
    Raises CheckpointError when the file is damaged or holds the weights of another task."""
    stored = read_description(path)
    if stored is None:
        return _load_default(path, DEFAULTS[task])
    try:
        description = msgspec.convert(stored, NetworkDescription)
        if description.task != task:
            raise CheckpointError(
                f"{path}: weights of a {description.task} network, wanted: those of a {task}"
                " network"
            )
        if not are_labels(description.labels):
            raise ValueError(f"labels {list(description.labels)}")
        model = build_network(description)
    except (ValueError, TypeError, LookupError) as error:
        raise CheckpointError(f"{path}: not a network of this program: {error}") from error
    load_weights(path, model)
    return model, description


def _load_default(
    path: Path, candidates: tuple[NetworkDescription, ...]
) -> tuple[nn.Module, NetworkDescription]:
    reasons = []
    for description in candidates:
        model = build_network(description)
        try:
            load_weights(path, model)
        except CheckpointError as error:
            reasons.append(error)
        else:
            return model, description
    raise reasons[0]
