"""`emotion-train export`: convert trained weights to a bundle for the device."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...engines.bundles import FUSION, LABELS, MAX_TEMPERATURE, MIN_TEMPERATURE, MODALITIES
from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

ModelT = TypeVar("ModelT", bound="nn.Module")

NETWORKS = (*MODALITIES, FUSION)
FUSIONS = ("attention", "channel")
ABSTAIN_BELOW = 0.3
"""Twice the confidence of chance, with seven labels."""


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


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="convert trained weights to a bundle",
        description="Write ONNX files, compare them with torch, and put them into a bundle with a"
        " model card. CKPT is a file of weights from training; of a checkpoint, the averaged"
        " weights are used. The bundle has no metrics: score it with `emotion-train evaluate`.",
    )
    parser.add_argument("--face", metavar="CKPT", type=Path)
    parser.add_argument("--voice", metavar="CKPT", type=Path)
    parser.add_argument("--fusion", metavar="CKPT", type=Path, help="needs --face and --voice")
    parser.add_argument("--fusion-network", choices=FUSIONS, default=FUSIONS[0])
    parser.add_argument(
        "--temperature",
        metavar="NAME=NUMBER",
        type=named_temperature,
        action="append",
        default=[],
        help="calibration of a network, for example voice=1.2; may be repeated (default: 1)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    return parser


def run(args: argparse.Namespace) -> None:
    given = {name: getattr(args, name) for name in NETWORKS if getattr(args, name) is not None}
    if not set(given) & set(MODALITIES):
        raise CheckpointError("nothing to export: give --face or --voice or both")
    if FUSION in given and len(given) < len(NETWORKS):
        raise CheckpointError("--fusion needs two networks: give --face and --voice as well")
    from ...kernels.spec import ImageSpec, MelSpec
    from ..export.bundle import FusionNetwork, write_bundle
    from ..recipe_file import LEVELS

    temperatures = {**dict.fromkeys(given, 1.0), **dict(args.temperature)}
    models: dict[str, nn.Module] = {}
    if "face" in given:
        models["face"] = _load_face(given["face"])
    if "voice" in given:
        models["voice"] = _load_voice(given["voice"])
    fusion = None
    if FUSION in given:
        network = _load_fusion(given[FUSION], args.fusion_network, models, temperatures)
        fusion = FusionNetwork(network, temperatures[FUSION])
    bundle = write_bundle(
        args.out,
        models,
        temperatures,
        dict.fromkeys(models, 0.5),
        LEVELS,
        ImageSpec(),
        MelSpec(),
        ABSTAIN_BELOW,
        {},
        {
            "recipe": "emotion-train export",
            "not_calibrated": [name for name in given if name not in dict(args.temperature)],
        },
        fusion=fusion,
    )
    print(f"{bundle.path}: {bundle.sha256}")


def _load_face(path: Path) -> nn.Module:
    """Load the face network. This and the two functions below raise CheckpointError."""
    from ..models.face import FaceNet, MirrorAveraged, fold_luma

    face = _load_first(path, [FaceNet()])
    fold_luma(face)  # no effect after training, which does the same
    return MirrorAveraged(face)


def _load_voice(path: Path) -> nn.Module:
    from ..data.ravdess import EMOTION_GROUPS
    from ..models.merged_labels import MergedLabels
    from ..models.voice import VoiceNet

    voice = _load_first(path, [VoiceNet(), VoiceNet(num_labels=len(EMOTION_GROUPS))])
    merges = voice.classifier.out_features == len(EMOTION_GROUPS)
    return MergedLabels(voice, EMOTION_GROUPS if merges else range(len(LABELS)))


def _load_fusion(
    path: Path, preset: str, models: dict[str, nn.Module], temperatures: dict[str, float]
) -> nn.Module:
    """Load the fusion network; attention gets the heads of the face and the voice network."""
    from ..models.fusion import AttentionFusion
    from ..recipes.fusion import attach_heads, build_fusion

    model = _load_first(path, [build_fusion(preset, len(LABELS))])
    if not isinstance(model, AttentionFusion):
        return model
    face, voice = (models[name].get_submodule("model.classifier") for name in MODALITIES)
    return attach_heads(
        model,
        face,  # type: ignore[arg-type]
        voice,  # type: ignore[arg-type]
        temperatures["face"],
        temperatures["voice"],
        voice_groups=models["voice"].groups,  # type: ignore[arg-type]
    )


def _load_first(path: Path, candidates: Sequence[ModelT]) -> ModelT:
    """Load the weights into the first network that they fit."""
    from ..loop.checkpoint import load_weights

    reasons = []
    for candidate in candidates:
        try:
            load_weights(path, candidate)
        except CheckpointError as error:
            reasons.append(error)
        else:
            return candidate
    raise reasons[0]
