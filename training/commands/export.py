"""`emotion-train export`: convert trained weights to a bundle for the device."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ...engines.bundles import FUSION, MAX_TEMPERATURE, MIN_TEMPERATURE, MODALITIES, Level
from ...kernels.spec import MAX_FACE_PX, MIN_FACE_PX, ImageSpec, MelSpec
from ..errors import CheckpointError
from ..recipe_file import LEVELS

if TYPE_CHECKING:
    from torch import nn

    from ..stored_network import NetworkDescription

log = logging.getLogger(__name__)

NETWORKS = (*MODALITIES, FUSION)
MAX_VERSION_DIGITS = 15
SURER_THAN_CHANCE = 11 / 60
"""From chance (0) to certainty (1): confidence under which there is no label, 0.3 of seven."""


def named_temperature(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        temperature = float(value)
    except ValueError:
        temperature = 0.0
    if name not in NETWORKS or not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected {' or '.join(NETWORKS)}, = and a number from {MIN_TEMPERATURE} to"
            f" {MAX_TEMPERATURE}"
        )
    return name, temperature


def named_size(text: str) -> tuple[str, int]:
    """Parse a level and the side of its face image, such as "high=64"."""
    name, _, value = text.partition("=")
    names = [level.name for level in LEVELS]
    size_px = int(value) if value.isdecimal() else 0
    if name not in names or not MIN_FACE_PX <= size_px <= MAX_FACE_PX or size_px % 4:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected {' or '.join(names)}, = and a multiple of 4 from {MIN_FACE_PX} to"
            f" {MAX_FACE_PX}"
        )
    return name, size_px


def version_number(text: str) -> int:
    """Parse the version of a bundle."""
    if not text.isdecimal() or len(text) > MAX_VERSION_DIGITS:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a number of at most {MAX_VERSION_DIGITS} digits"
        )
    return int(text)


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="convert trained weights to a bundle",
        description="Write ONNX files, compare them with torch, and put them into a bundle with a"
        " model card. CKPT is a file of weights from training, which says what network it is, what"
        " labels it has and what it was trained on; a file without that is tried as the default"
        " network. Of a checkpoint, the averaged weights are used. The bundle has no metrics: score"
        " it with `emotion-train evaluate`.",
    )
    parser.add_argument("--face", metavar="CKPT", type=Path)
    parser.add_argument("--voice", metavar="CKPT", type=Path)
    parser.add_argument("--fusion", metavar="CKPT", type=Path, help="needs --face and --voice")
    parser.add_argument(
        "--temperature",
        metavar="NAME=NUMBER",
        type=named_temperature,
        action="append",
        default=[],
        help="calibration of a network, for example voice=1.2; may be repeated (default: 1)",
    )
    sizes = ", ".join(f"{level.name} {level.face_px}" for level in LEVELS)
    parser.add_argument(
        "--level",
        metavar="NAME=PX",
        type=named_size,
        action="append",
        default=[],
        help="side of a quality level's face image, for example high=112; may be repeated. A size"
        f" smaller or larger than all those trained on is refused (default: {sizes}, or the"
        " nearest size trained on)",
    )
    parser.add_argument(
        "--version",
        metavar="N",
        type=version_number,
        help="version of the bundle: a device that asks for signatures takes none below one it has"
        " had (default: one more than that of the bundle in DIR, 1 without one)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    return parser


def run(args: argparse.Namespace) -> None:
    given = {name: getattr(args, name) for name in NETWORKS if getattr(args, name) is not None}
    if not set(given) & set(MODALITIES):
        raise CheckpointError("nothing to export: give --face or --voice or both")
    if FUSION in given and len(given) < len(NETWORKS):
        raise CheckpointError("--fusion needs two networks: give --face and --voice as well")
    from ..export import (
        FusionNetwork,
        describe_training,
        find_next_version,
        read_origin,
        write_bundle,
    )
    from ..stored_network import load_network

    loaded = {name: load_network(path, name) for name, path in given.items()}
    descriptions = {name: description for name, (_, description) in loaded.items()}
    labels = _check_labels(given, descriptions)
    face, voice = (descriptions.get(name) for name in MODALITIES)
    if face is None and args.level:
        raise CheckpointError("--level needs a face network: give --face as well")
    levels = choose_levels(face.sizes_px if face else (), dict(args.level))
    temperatures = {**dict.fromkeys(given, 1.0), **dict(args.temperature)}
    models = {name: _finish(*loaded[name]) for name in MODALITIES if name in given}
    fusion = None
    if FUSION in given:
        network = _attach(loaded, temperatures)
        fusion = FusionNetwork(network, temperatures[FUSION])
    training = describe_training({name: read_origin(path) for name, path in given.items()})
    not_calibrated = [name for name in given if name not in dict(args.temperature)]
    bundle = write_bundle(
        args.out,
        models,
        temperatures,
        dict.fromkeys(models, 0.5),
        levels,
        face.image if face else ImageSpec(),
        voice.mel if voice else MelSpec(),
        choose_threshold(len(labels)),
        {},
        {"recipe": "emotion-train export", "not_calibrated": not_calibrated, **training},
        labels=labels,
        fusion=fusion,
        version=find_next_version(args.out) if args.version is None else args.version,
    )
    print(f"{bundle.path}: {bundle.sha256}")
    if not_calibrated:
        log.warning(
            "not calibrated: %s: confidence does not say how often an answer is right; give"
            " --temperature, or let `emotion-train all` calibrate the bundle of a recipe",
            ", ".join(not_calibrated),
        )


def choose_levels(trained_px: Sequence[int], wanted_px: Mapping[str, int]) -> list[Level]:
    """Return the quality levels with the sizes `wanted_px` by name, else with those of the bundle
    that ships as far as the network was trained at them. Raises CheckpointError for a size outside
    those trained on; without any every size is allowed."""
    low, high = min(trained_px, default=MIN_FACE_PX), max(trained_px, default=MAX_FACE_PX)
    levels = []
    for level in LEVELS:
        size_px = wanted_px.get(level.name)
        if size_px is not None and not low <= size_px <= high:
            sizes = ", ".join(map(str, trained_px))
            raise CheckpointError(
                f"--level {level.name}={size_px}: the face network was trained at {sizes} px"
            )
        if size_px is None:
            # A multiple of 4, which the device's preprocessing needs.
            size_px = min(max(level.face_px, -(-low // 4) * 4), max(high // 4 * 4, MIN_FACE_PX))
        levels.append(msgspec.structs.replace(level, face_px=size_px))
    return levels


def choose_threshold(num_labels: int) -> float:
    """Return the confidence under which there is no label, as far above chance as 0.3 of seven."""
    chance = 1 / num_labels
    return round(chance + SURER_THAN_CHANCE * (1 - chance), 3)


def _check_labels(
    files: Mapping[str, Path], descriptions: Mapping[str, NetworkDescription]
) -> tuple[str, ...]:
    """Return the labels of all networks. Raises CheckpointError if they differ."""
    (first, labels), *others = ((name, each.labels) for name, each in descriptions.items())
    for name, its in others:
        if its != labels:
            raise CheckpointError(
                f"{files[name]}: has the labels {', '.join(its)}; {files[first]} has"
                f" {', '.join(labels)}"
            )
    return labels


def _finish(model: Any, description: NetworkDescription) -> nn.Module:
    """Return the face or the voice network as it ships."""
    from ..models import MergedLabels, MirrorAveraged, fold_luma

    if description.task == "face":
        fold_luma(model)  # no effect after training, which does the same
        model = MirrorAveraged(model)
    return MergedLabels(model, description.groups) if description.merges else model


def _attach(
    loaded: Mapping[str, tuple[Any, NetworkDescription]], temperatures: Mapping[str, float]
) -> nn.Module:
    """Return the fusion network; attention gets the heads of the face and the voice network."""
    from ..models import AttentionFusion
    from ..recipes import attach_heads

    fusion = loaded[FUSION][0]
    if not isinstance(fusion, AttentionFusion):
        return fusion
    (face, face_is), (voice, voice_is) = (loaded[name] for name in MODALITIES)
    return attach_heads(
        fusion,
        face.classifier,
        voice.classifier,
        temperatures["face"],
        temperatures["voice"],
        face_groups=face_is.groups or None,
        voice_groups=voice_is.groups or None,
    )
