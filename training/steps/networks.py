"""The face and the voice network of a division, trained once.

In: the material and a division. Out: `TrainedNetwork`; its weights, settings and learning curve
stay in the work folder.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..loop import RunOptions, read_curves
from ..models import FaceNet, VoiceNet
from ..recipes import (
    FaceRecipe,
    HeldOutSpeech,
    VoiceRecipe,
    held_out_accuracy,
    held_out_voice_accuracy,
    train_face,
    train_voice,
)
from ..stored_network import NetworkDescription, load_network, save_network
from .material import Division, Material
from .progress import Progress
from .settings import make_face_recipe, make_voice_recipe
from .work_folder import hash_content, hash_file, keep_result, name_result

log = logging.getLogger(__name__)

CURVES = ("loss", "validation")


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network and how it came about."""

    model: FaceNet | VoiceNet
    """In eval mode."""
    folder: Path
    facts: dict[str, Any]
    """network, division, validation (accuracy or None), num_examples, people, curves."""

    @property
    def key(self) -> str:
        """What the network depends on, hashed."""
        return self.folder.name


def train_division(
    material: Material, division: Division, work: Path, progress: Progress
) -> dict[str, TrainedNetwork]:
    """Train the networks of a division that the recipe has, or load them: by modality."""
    networks = {}
    if material.recipe.face is not None and division.faces is not None:
        progress.begin(f"face network, {division.name}")
        networks["face"] = get_face_network(material, division, work)
    if material.recipe.voice is not None and division.voices is not None:
        progress.begin(f"voice network, {division.name}")
        networks["voice"] = get_voice_network(material, division, work)
    return networks


def get_face_network(material: Material, division: Division, work: Path) -> TrainedNetwork:
    """Train the face network, or load it. Where nobody knows whose the faces are, as in FER+, all
    divisions share one network: no person can be held out."""
    recipe, faces, parts = material.recipe, material.faces, division.faces
    assert recipe.face is not None
    assert parts is not None
    people = {faces.people[i] for i in parts.train} - {""}
    settings = make_face_recipe(recipe.face, division.seed if people else 0)
    known = (faces.images, faces.votes, faces.labels)
    key = hash_content(
        "face",
        asdict(settings),
        recipe.labels,
        recipe.image,
        hash_file(recipe.face.init_from),
        [array[index] for array in known for index in (parts.train, parts.valid)],
    )
    folder = name_result(work, "face", key)

    def make() -> dict[str, Any]:
        initial = Path(recipe.face.init_from) if recipe.face and recipe.face.init_from else None
        options = RunOptions({"labels": recipe.labels}, initial)
        index = (parts.train, parts.valid)
        model = train_face(faces, index, folder, settings, recipe.image, options)
        score = held_out_accuracy(model, faces, parts.valid, settings, recipe.image)
        rounds = sorted(folder.glob("face-round*.ckpt"))
        description = NetworkDescription(
            "face",
            recipe.labels,
            settings={"dropout": settings.dropout, "max_drop": settings.max_drop},
            sizes_px=settings.trained_px,
            image=recipe.image,
        )
        return _finish(folder, description, model, score, rounds) | {
            "settings": asdict(settings),
            "num_examples": len(parts.train),
            "people": sorted(people),
        }

    facts = keep_result(folder, make)
    model, _ = load_network(folder / "face.pt", "face")
    return TrainedNetwork(model.eval(), folder, facts)


def get_voice_network(material: Material, division: Division, work: Path) -> TrainedNetwork:
    """Train the voice network, or load it."""
    recipe, voices, parts = material.recipe, material.voices, division.voices
    assert recipe.voice is not None
    assert parts is not None
    settings = make_voice_recipe(recipe.voice, division.seed)
    heard = [*parts.train, *parts.valid]
    key = hash_content(
        "voice",
        asdict(settings),
        voices.fine_names,
        recipe.mel,
        hash_file(recipe.voice.init_from),
        len(parts.train),
        voices.fine_labels[heard],
        [voices.audio_clips[i] for i in heard],
        material.training_noises,
    )
    folder = name_result(work, "voice", key)

    def make() -> dict[str, Any]:
        initial = Path(recipe.voice.init_from) if recipe.voice and recipe.voice.init_from else None
        options = RunOptions({"labels": voices.fine_names}, initial)
        speech = material.speech.select(parts.train)
        held_out = None
        if len(parts.valid):
            clips = [voices.audio_clips[i] for i in parts.valid]
            held_out = HeldOutSpeech(clips, voices.fine_labels[parts.valid])
        checkpoint = folder / "voice.ckpt"
        model = train_voice(speech, recipe.mel, settings, checkpoint, held_out, options)
        score = math.nan
        if held_out is not None:
            score = held_out_voice_accuracy(model, held_out, recipe.mel)
        description = NetworkDescription(
            "voice",
            recipe.labels,
            voices.fine_names,
            voices.groups,
            {
                name: getattr(settings, name)
                for name in ("num_members", "channels", "lstm_size", "dropout")
            },
            mel=recipe.mel,
        )
        return _finish(folder, description, model, score, [checkpoint]) | {
            "settings": asdict(settings),
            "num_examples": len(parts.train),
            "people": sorted({voices.people[i] for i in parts.train} - {""}),
        }

    facts = keep_result(folder, make)
    model, _ = load_network(folder / "voice.pt", "voice")
    return TrainedNetwork(model.eval(), folder, facts)


def _describe_face(material: Material, settings: FaceRecipe) -> NetworkDescription:
    return NetworkDescription(
        "face",
        material.recipe.labels,
        settings={"dropout": settings.dropout, "max_drop": settings.max_drop},
        sizes_px=settings.trained_px,
        image=material.recipe.image,
    )


def _describe_voice(material: Material, settings: VoiceRecipe) -> NetworkDescription:
    names = ("num_members", "channels", "lstm_size", "dropout")
    return NetworkDescription(
        "voice",
        material.recipe.labels,
        material.voices.fine_names,
        material.voices.groups,
        {name: getattr(settings, name) for name in names},
        mel=material.recipe.mel,
    )


def _finish(
    folder: Path,
    description: NetworkDescription,
    model: nn.Module,
    score: float,
    checkpoints: Sequence[Path],
) -> dict[str, Any]:
    """Write the weights, read the curves, and delete the checkpoints, which are many times larger
    than the weights."""
    save_network(folder / f"{description.task}.pt", model, description)
    curves: dict[str, list[float | None]] = {name: [] for name in CURVES}
    for checkpoint in checkpoints:
        for name, values in read_curves(checkpoint).items():
            curves[name] += values
    for checkpoint in checkpoints:
        checkpoint.unlink()
    return {
        "network": description.task,
        "validation": None if math.isnan(score) else round(score, 4),
        "curves": curves,
    }
