"""Runs the recipe of a configuration.

In: a configuration of `config`. Out: the network and its validation score; in the folder `out` the
checkpoint of the run, then the weights (`TASK.pt`) and their origin (`TASK.json`).
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..engines.bundles import LABELS
from ..engines.config_file import ConfigError
from ..kernels.spec import ImageSpec, MelSpec
from .config import AnyConfig, FaceConfig, FusionConfig, VoiceConfig
from .data import (
    EMOTION_GROUPS,
    EMOTIONS8,
    MANIFEST,
    FaceSet,
    FeatureCache,
    VoiceSet,
    find_voice_clips,
    hold_out,
    load_ferplus,
    load_noises,
    load_voices,
    name_actor,
    split_actors,
)
from .errors import DatasetError, TrainingError
from .export import FERPLUS, RAVDESS, describe_noise
from .loop import RunOptions
from .models import (
    EMBEDDING_SIZE,
    NUM_FACES,
    AttentionFusion,
    ChannelFusion,
    count_cost,
)
from .recipes import (
    PAIRS,
    FaceRecipe,
    FusionRecipe,
    HeldOutSpeech,
    Pairs,
    Round,
    Speech,
    VoiceRecipe,
    held_out_accuracy,
    held_out_voice_accuracy,
    prepare_speech,
    train_face,
    train_fusion,
    train_voice,
)
from .stored_network import NetworkDescription, build_network, save_network


@dataclass(frozen=True, slots=True)
class VoiceData:
    """Recordings for training and validation of a voice network."""

    training: Speech
    validation: HeldOutSpeech | None
    """The validation actors of the fold; None when all actors are for training."""
    people: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By role of the bundle's provenance."""


Data = FaceSet | VoiceData | Pairs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A trained network and its score."""

    model: nn.Module
    score: float | None
    """Accuracy on held-out faces or on the validation actors of the fold; None without
    validation."""
    num_epochs: int
    people: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Whom it was trained and validated on, by role of the bundle's provenance."""


def face_recipe(config: FaceConfig) -> FaceRecipe:
    """Convert a configuration to a recipe."""
    shared = _shared(config)
    peak_lr, ema_decay = shared.pop("peak_lr"), shared.pop("ema_decay")
    rounds = tuple(
        Round(
            tuple(stage.sizes_px for stage in section.stages for _ in range(stage.num_epochs)),
            peak_lr * section.rate,
            ema_decay if section.ema_decay is None else section.ema_decay,
        )
        for section in config.rounds
    )
    return FaceRecipe(
        **shared,
        **msgspec.structs.asdict(config.network),
        rounds=rounds,
        rare_label_share=config.rare_label_share,
        compile_model=config.compile_model,
    )


def voice_recipe(config: VoiceConfig) -> VoiceRecipe:
    """Convert a configuration to a recipe."""
    return VoiceRecipe(
        **_shared(config),
        **msgspec.structs.asdict(config.network),
        **msgspec.structs.asdict(config.augmentation),
        num_epochs=config.num_epochs,
    )


def fusion_recipe(config: FusionConfig) -> FusionRecipe:
    """Convert a configuration to a recipe."""
    return FusionRecipe(
        **_shared(config),
        preset=config.kind,
        num_epochs=config.num_epochs,
        modality_dropout=config.modality_dropout,
    )


def _shared(config: AnyConfig) -> dict[str, Any]:
    """Return the settings that all recipes share, by name."""
    return {**msgspec.structs.asdict(config.learning), "seed": config.seed}


def describe_network(config: AnyConfig) -> NetworkDescription:
    """Return what rebuilds the network of a configuration."""
    if isinstance(config, FaceConfig):
        settings = msgspec.structs.asdict(config.network)
        sizes_px = face_recipe(config).trained_px
        return NetworkDescription("face", LABELS, settings=settings, sizes_px=sizes_px)
    if isinstance(config, VoiceConfig):
        settings = msgspec.structs.asdict(config.network)
        return NetworkDescription("voice", LABELS, EMOTIONS8, EMOTION_GROUPS, settings)
    return NetworkDescription("fusion", LABELS, settings={"kind": config.kind})


def make_network(config: AnyConfig) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Build the untrained network as the device runs it, and the inputs of one example."""
    if isinstance(config, FaceConfig):
        size_px = max(config.rounds[-1].stages[-1].sizes_px)
        face = build_network(describe_network(config))
        return face, (torch.zeros(1, 3, size_px, size_px),)
    if isinstance(config, VoiceConfig):
        description = describe_network(config)
        spec = description.mel
        window = torch.zeros(1, spec.num_mels, spec.num_frames)
        return build_network(description), (window, torch.ones(1, spec.num_frames))
    kind = AttentionFusion if config.kind == "attention" else ChannelFusion
    faces, voice_embedding = (
        torch.zeros(1, NUM_FACES, EMBEDDING_SIZE),
        torch.zeros(1, EMBEDDING_SIZE),
    )
    return kind(), (faces, torch.ones(1, NUM_FACES), voice_embedding, torch.ones(1, 1))


def prepare_data(config: AnyConfig) -> Data:
    """Load the data of a configuration, for any number of runs. Raises ConfigError when a folder is
    missing in `config`, DatasetError when it cannot be read."""
    for key in ("root", "out"):
        if not getattr(config, key):
            raise ConfigError(f"{key} is empty: give --{key} DIR")
    if (Path(config.root) / MANIFEST).is_file():
        raise ConfigError(
            f"root is {config.root!r}, a folder with {MANIFEST}: `emotion-train new {config.root}`"
            " writes its recipe, and `emotion-train all recipe.yaml` trains it"
        )
    check_writable(Path(config.out))
    if isinstance(config, FaceConfig):
        faces = load_ferplus(Path(config.root), "train", _open_cache(config))
        training, held_out = hold_out(len(faces.labels), config.seed)
        known = held_out[faces.labels[held_out] >= 0]
        _check_examples(config, faces.votes[training].argmax(axis=1), faces.labels[known])
        return faces
    if isinstance(config, VoiceConfig):
        return _read_voice_data(config)
    pairs = _read_pairs(Path(config.root) / PAIRS)
    _check_examples(config, pairs.labels, None)
    return pairs


def _check_examples(
    config: AnyConfig, training: NDArray[np.int64], validation: NDArray[np.int64] | None
) -> None:
    """Check the labels of the examples: raise DatasetError for fewer than a batch, and warn of a
    label that nobody shows."""
    size = config.learning.batch_size
    if len(training) < size:
        raise DatasetError(
            f"{config.root}: {len(training)} examples for training, and learning.batch_size is"
            f" {size}: allowed: at most {len(training)}"
        )
    for purpose, found in (("training", training), ("validation", validation)):
        if found is None:
            continue
        absent = [name for i, name in enumerate(list_labels(config)) if i not in found]
        if absent:
            log.warning("%s: no example for %s of %s", config.root, purpose, ", ".join(absent))


def check_writable(folder: Path, option: str = "--out") -> None:
    """Make the folder of the results, before hours of training. Raises TrainingError, which names
    the `option` or key that gave the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TrainingError(f"{option} {folder}: cannot be written: {error.strerror}") from error


def _open_cache(config: AnyConfig) -> FeatureCache | None:
    return FeatureCache(Path(config.cache)) if config.cache else None


def _read_voice_data(config: VoiceConfig) -> VoiceData:
    clips = find_voice_clips(Path(config.root))
    found = sorted({clip.actor for clip in clips})
    training: Sequence[int] = found
    validation: Sequence[int] = ()
    if config.fold is not None:
        training, validation, _ = split_actors(config.fold)
        for purpose, actors in (("training", training), ("validation", validation)):
            if not set(actors) & set(found):
                raise DatasetError(
                    f"{config.root}: fold {config.fold} takes actors {join_numbers(actors)} for"
                    f" {purpose}, and there are only actors {join_numbers(found)}"
                )
    chosen = [clip for clip in clips if clip.actor in {*training, *validation}]
    absent = {*training, *validation} - set(found)
    if absent:
        log.warning("%s: no recording of actors %s", config.root, join_numbers(absent))
    log.info(
        "training on actors %s; validation: %s",
        join_numbers(set(training) & set(found)),
        join_numbers(set(validation) & set(found)) or "none",
    )
    spec = MelSpec()
    noise = Path(config.noise)
    noises = load_noises(noise, True, spec.sample_rate_hz) if config.noise else ()
    voices = load_voices(chosen, spec, _open_cache(config))
    own, others = voices.select(training), voices.select(validation)
    _check_examples(config, own.emotions, others.emotions if validation else None)
    speech = prepare_speech(
        own.audio_clips, own.emotions, len(EMOTIONS8), noises, spec, voice_recipe(config)
    )
    held_out = HeldOutSpeech(others.audio_clips, others.emotions) if validation else None
    people = {"training": _name_people(own)}
    return VoiceData(speech, held_out, people | {"validation": _name_people(others)})


def _name_people(voices: VoiceSet) -> list[str]:
    return [name_actor(actor) for actor in sorted(set(voices.actors.tolist()))]


def join_numbers(numbers: Iterable[int]) -> str:
    """Return the sorted numbers as text, such as "2, 5, 14"."""
    return ", ".join(map(str, sorted(numbers)))


def _read_pairs(path: Path) -> Pairs:
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            return Pairs(arrays["faces"], arrays["voices"], arrays["labels"])
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (LookupError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: no arrays faces, voices and labels") from error


def train_network(
    config: AnyConfig,
    data: Data,
    log_folder: Path | None = None,
    init_from: Path | None = None,
    on_epoch: Callable[[int, float | None], None] | None = None,
    num_samples: int = 0,
) -> TrainingResult:
    """Train the network of `config` on `data` of `prepare_data`; checkpoints go to `config.out`,
    curves and `num_samples` inputs of each epoch to `log_folder`.

    Test actors and test images are never used.
    """
    num_epochs = 0

    def record_epoch(_: int, score: float | None) -> None:
        nonlocal num_epochs
        num_epochs += 1
        if on_epoch is not None:
            on_epoch(num_epochs, score)

    identity = {"labels": list_labels(config)}
    options = RunOptions(identity, init_from, log_folder, record_epoch, num_samples)
    out = Path(config.out)
    model: nn.Module
    people: Mapping[str, Sequence[str]] = {}
    # The score is that of the network as it is returned, whatever was measured after its epochs.
    score: float | None = None
    if isinstance(config, FaceConfig) and isinstance(data, FaceSet):
        recipe = face_recipe(config)
        parts = hold_out(len(data.labels), recipe.seed)
        model = train_face(data, parts, out, recipe, ImageSpec(), options)
        score = held_out_accuracy(model, data, parts[1], recipe, ImageSpec())
    elif isinstance(config, VoiceConfig) and isinstance(data, VoiceData):
        checkpoint = out / "voice.ckpt"
        model = train_voice(
            data.training, MelSpec(), voice_recipe(config), checkpoint, data.validation, options
        )
        people = data.people
        if data.validation is not None:
            score = held_out_voice_accuracy(model, data.validation, MelSpec())
    elif isinstance(config, FusionConfig) and isinstance(data, Pairs):
        labels = len(list_labels(config))
        model = train_fusion(data, labels, fusion_recipe(config), out / "fusion.ckpt", options)
    else:
        raise ValueError(f"{type(data).__name__}: not the data of {type(config).__name__}")
    if score is not None and math.isnan(score):
        score = None
    return TrainingResult(model, score, num_epochs, people)


def list_labels(config: AnyConfig) -> tuple[str, ...]:
    """Return the label of each output of the network."""
    description = describe_network(config)
    return description.outputs or description.labels


def _describe_data(config: AnyConfig) -> list[dict[str, str]]:
    used = []
    if isinstance(config, FaceConfig):
        used = [FERPLUS]
    if isinstance(config, VoiceConfig):
        used = [RAVDESS, *([describe_noise(Path(config.noise))] if config.noise else [])]
    return [asdict(data_set) for data_set in used]


def save_result(config: AnyConfig, trained: TrainingResult) -> Path:
    """Write the weights, and their origin as JSON beside them -> the file of weights."""
    task = str(config.__struct_config__.tag)
    weights = Path(config.out) / f"{task}.pt"
    cost = count_cost(*make_network(config))
    origin = {
        "config": msgspec.to_builtins(config),
        "labels": list_labels(config),
        "validation": trained.score,
        "people": {role: list(names) for role, names in trained.people.items()},
        "data_sets": _describe_data(config),
        "num_epochs": trained.num_epochs,
        "num_parameters": cost.num_parameters,
        "num_flops": cost.num_flops,
        "torch": str(torch.__version__),
    }
    save_network(weights, trained.model, describe_network(config))
    try:
        weights.with_suffix(".json").write_text(json.dumps(origin, indent=2) + "\n")
    except OSError as error:
        raise TrainingError(f"{weights.with_suffix('.json')}: {error.strerror}") from error
    return weights
