"""The recipe of a bundle: one YAML file for data, labels, networks, levels and results.

In: a file. Out: a frozen `Recipe`, or a ConfigError that names the key, the value and the allowed
values. Every key has a default but `data`; the defaults are the recipe of the bundle that ships,
with the splits of the data instead of folds. Relative paths are relative to the recipe's folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from ..engines.bundles import LABELS, BundleError, Level, Version, check_levels
from ..engines.config_file import (
    ConfigError,
    Section,
    apply_override,
    explain_problem,
    read_config_file,
)
from ..kernels.spec import SAMPLE_RATE_HZ, ImageSpec, MelSpec
from .config import (
    Count,
    FaceNetwork,
    OptimizerConfig,
    Rate,
    Round,
    Share,
    Stage,
    VoiceAugmentation,
    VoiceNetwork,
)

MIN_LABELS, MAX_LABELS = 2, 32
MAX_LABEL_LETTERS = 32
Kind = Literal["folder", "ravdess", "ferplus", "action_units"]
Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Seeds = Annotated[int, Meta(ge=1, le=100)]

FACE_ROUNDS = (
    Round((Stage(6, (48,)), Stage(7, (64,)))),
    Round((Stage(11, (64,)), Stage(2, (64, 80, 96, 112))), 0.75, 0.999),
    Round((Stage(13, (64, 64, 48)),), 0.4, 0.999),
)
"""Small images cost less, so the size grows over the epochs."""
LEVELS = (
    Level("high", face_px=64, voice_hop_ms=200, face_find_hz=8),
    Level("medium", face_px=56, voice_hop_ms=400, face_find_hz=4),
    Level("low", face_px=56, voice_hop_ms=800, face_find_hz=2, faces=2, camera_fps=15),
    Level("minimal", face_px=56, voice=False, face_find_hz=1, faces=1, camera_fps=8),
)
"""FER+ faces have 48 px, so larger images add no detail: 96 px cost twice as much and scored 2.5
points less than 64 after the same training."""


class DataSection(Section, frozen=True):
    """One data set."""

    kind: Kind
    root: Text
    """Its folder, for action units the table."""
    map: dict[str, str] = msgspec.field(default_factory=dict)
    """The data's names -> labels of the recipe; "" leaves the examples of a name out."""


class PeopleSection(Section, frozen=True):
    """How people are held out."""

    protocol: Literal["split", "folds"] = "split"
    """`split`: the splits of the data. `folds`: cross-validation over people; the networks that
    ship are trained on the people of all folds."""
    hash: bool = False
    """Store the people's names in the bundle as hashes."""


class VoiceOptimizer(OptimizerConfig, frozen=True):
    """The optimizer's settings for the voice network."""

    batch_size: Count = 16
    peak_lr: Rate = 3e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.02
    ema_decay: Share = 0.995


class FusionOptimizer(OptimizerConfig, frozen=True):
    """The optimizer's settings for the fusion network."""

    peak_lr: Rate = 1e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.02
    ema_decay: Share = 0.98
    label_smoothing: Share = 0.0


class FaceSection(Section, frozen=True):
    """The face network and its training; see `config.FaceConfig`."""

    network: FaceNetwork = FaceNetwork()
    rounds: Annotated[tuple[Round, ...], Meta(min_length=1)] = FACE_ROUNDS
    learning: OptimizerConfig = OptimizerConfig()
    rare_label_share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    compile_model: bool = True
    init_from: str = ""
    """Weights to start from; empty for random ones."""


class VoiceSection(Section, frozen=True):
    """The voice network and its training; see `config.VoiceConfig`."""

    network: VoiceNetwork = VoiceNetwork()
    augmentation: VoiceAugmentation = VoiceAugmentation()
    learning: VoiceOptimizer = VoiceOptimizer()
    num_epochs: Count = 120
    fine_labels: bool = True
    """Train on the data's own names, such as the eight of RAVDESS; the network merges them into
    the recipe's labels."""
    init_from: str = ""


class FusionSection(Section, frozen=True):
    """The fusion network and its training; see `config.FusionConfig`."""

    kind: Literal["attention", "channel"] = "attention"
    learning: FusionOptimizer = FusionOptimizer()
    num_epochs: Count = 40
    modality_dropout: Annotated[float, Meta(ge=0, le=0.5)] = 0.15
    face_doubt: Annotated[float, Meta(ge=0.1, le=10)] | None = None
    """Factor of the face's temperature when a voice is present (attention). A talking face looks
    neutral most of the time. None for 3 where the faces of the training are pictures, 1 where they
    are frames of films of talking people."""


class Int8Section(Section, frozen=True):
    """How INT8 networks are made; see `emotion-calibrate quantize`."""

    method: Literal["auto", "mse", "percentile", "entropy", "minmax", "answer"] = "auto"
    min_agreement: Annotated[float, Meta(ge=0, le=1)] = 0.985
    """Share of samples with the label of FP32 that calibration works for."""


class Recipe(Section, frozen=True, kw_only=True):
    """Everything from the data to the bundle. `load_recipe` has joined its paths with the folder of
    the file."""

    name: Annotated[str, Meta(min_length=1, max_length=64)] = "emotion"
    """Name of the bundle."""
    labels: tuple[str, ...] = LABELS
    data: Annotated[tuple[DataSection, ...], Meta(min_length=1, max_length=64)]
    noise: str = ""
    """Folder of noise recordings, half of them for training; empty for synthetic noise."""
    people: PeopleSection = PeopleSection()
    image: ImageSpec = ImageSpec()
    mel: MelSpec = MelSpec()
    levels: Annotated[tuple[Level, ...], Meta(min_length=1)] = LEVELS
    face: FaceSection | None = FaceSection()
    """None for a bundle without a face network."""
    voice: VoiceSection | None = VoiceSection()
    fusion: FusionSection | None = FusionSection()
    """None for the average of both modalities."""
    precision: tuple[Literal["int8"], ...] = ("int8",)
    """Variants of the networks beside FP32."""
    int8: Int8Section = Int8Section()
    abstain_below: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Confidence below which there is no label. None for the one below which 2 % of the right
    answers about the validation people are."""
    seeds: Seeds = 1
    """Repetitions of each fold."""
    version: Version | None = None
    """Version of the bundle. None for one more than that of the bundle in `out`."""
    out: Text = "bundle"
    """Folder of the bundle."""
    work: Text = "work"
    """Folder of what the steps leave for each other; it may be deleted at any time."""

    @property
    def cache(self) -> Path:
        """Folder of the decoded data."""
        return Path(self.work) / "cache"


COMMENTS = {
    "name": "Name of the bundle.",
    "labels": "What the networks tell apart: 2 to 32 labels.",
    "data": "Data sets of the kinds folder (with manifest.csv), ravdess, ferplus and action_units."
    "\n`map` gives names of the data a label; '' leaves them out. Usual names (happiness, calm)\n"
    "need no entry.",
    "noise": "Folder of noise recordings for the voice; '' for synthetic noise.",
    "people": "split: the splits of the data. folds: cross-validation over people. hash: store the"
    "\npeople's names as hashes.",
    "image": "Scaling of the face image.",
    "mel": "The log-mel window of the voice.",
    "levels": "Quality levels, the best first; the device chooses among them.",
    "face": "The face network; null for none. An epoch draws its image size from `sizes_px`.",
    "voice": "The voice network; null for none. fine_labels: train on the data's own names, then\n"
    "merge them.",
    "fusion": "attention, channel, or null for the average of face and voice.",
    "precision": "Variants beside FP32: [int8] or [].",
    "int8": "How INT8 networks are made: see emotion-calibrate quantize --help.",
    "abstain_below": "Confidence below which there is no label; null to choose it on the validation"
    "\npeople.",
    "seeds": "Repetitions of each fold.",
    "version": "A device that asks for signatures takes no bundle below a version it has had; null"
    "\nfor one more than that of the bundle in out.",
    "out": "The bundle. Relative paths are relative to this file.",
    "work": "What the steps leave for each other; may be deleted at any time.",
}
"""A comment for each key of the file."""


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, overridden by `settings` ("a.b=value", the value in YAML), and join
    its paths with the folder of the file. Raises ConfigError, also for data that is missing."""
    tree = read_config_file(path)
    for setting in settings:
        apply_override(tree, setting)
    for key in ("face", "voice", "fusion"):
        if tree.get(key) == "":  # `face:` without a value is YAML's null
            tree[key] = "null"
    if tree.get("noise") == "null":
        tree["noise"] = ""
    try:
        recipe = msgspec.convert(tree, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(path), tree, str(error))) from error
    recipe = _resolve_paths(recipe, path.parent)
    check_recipe(recipe, str(path))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return commented YAML that `load_recipe` reads as the same recipe."""
    tree = msgspec.to_builtins(recipe)
    parts = []
    for key, comment in COMMENTS.items():
        inner = None if isinstance(tree[key], (dict, list, tuple)) else False
        text = yaml.safe_dump(
            {key: tree[key]},
            sort_keys=False,
            default_flow_style=inner,  # None: innermost collections on one line
            width=100,
            allow_unicode=True,
        )
        parts.append("".join(f"# {line}\n" for line in comment.splitlines()) + text)
    return "\n".join(parts)


def move_recipe(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with the paths of its data as a file in `folder` writes them: relative to
    it where they are inside, else absolute."""

    def shorten(text: str) -> str:
        path, base = Path(text).resolve(), folder.resolve()
        return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)

    data = tuple(
        msgspec.structs.replace(section, root=shorten(section.root)) for section in recipe.data
    )
    noise = shorten(recipe.noise) if recipe.noise else ""
    return msgspec.structs.replace(recipe, data=data, noise=noise)


def check_recipe(recipe: Recipe, origin: str) -> None:
    """Check what single values do not show: labels, maps, levels and that the data exists.

    Raises ConfigError; `origin` names the file.
    """
    check_labels(recipe.labels, origin)
    for number, section in enumerate(recipe.data):
        where = f"{origin}: data[{number}]"
        folded = [name.strip().casefold() for name in section.map]
        twice = [
            name for name, key in zip(section.map, folded, strict=True) if folded.count(key) > 1
        ]
        if twice:
            raise ConfigError(f"{where}.map has {' and '.join(twice)}, allowed: each name once")
        for name, label in section.map.items():
            if label and label not in recipe.labels:
                raise ConfigError(
                    f"{where}.map.{name} is {label!r}, allowed: {', '.join(recipe.labels)}, and ''"
                    " to leave it out"
                )
        root = Path(section.root)
        if not root.exists():
            raise ConfigError(f"{where}.root is {section.root!r}: no such file or folder")
        if section.kind != "action_units" and not root.is_dir():
            raise ConfigError(f"{where}.root is {section.root!r}: a folder is wanted")
    if recipe.noise and not Path(recipe.noise).is_dir():
        raise ConfigError(f"{origin}: noise is {recipe.noise!r}: no such folder")
    for key, part in (("face", recipe.face), ("voice", recipe.voice)):
        if part is not None and part.init_from and not Path(part.init_from).is_file():
            raise ConfigError(f"{origin}: {key}.init_from is {part.init_from!r}: no such file")
    rate = recipe.mel.sample_rate_hz
    if rate != SAMPLE_RATE_HZ:  # a bundle for another rate is refused, after hours
        raise ConfigError(f"{origin}: mel.sample_rate_hz is {rate}, allowed: {SAMPLE_RATE_HZ}")
    if recipe.face is None and recipe.voice is None:
        raise ConfigError(f"{origin}: face and voice are null, allowed: one of them")
    try:
        check_levels(Path(origin), recipe.levels)
    except BundleError as error:
        raise ConfigError(str(error)) from error


def check_labels(labels: tuple[str, ...], origin: str) -> None:
    """Raise ConfigError unless there are 2 to 32 distinct, printable names."""
    if not MIN_LABELS <= len(labels) <= MAX_LABELS:
        raise ConfigError(
            f"{origin}: labels are {len(labels)}, allowed: {MIN_LABELS} to {MAX_LABELS}"
        )
    seen: set[str] = set()
    for label in labels:
        plain = label.isprintable() and label.strip() == label
        if not plain or not 1 <= len(label) <= MAX_LABEL_LETTERS:
            raise ConfigError(
                f"{origin}: labels has {label!r}, allowed: 1 to {MAX_LABEL_LETTERS} printable"
                " letters"
            )
        if label.casefold() in seen:
            raise ConfigError(f"{origin}: labels has {label!r} twice, allowed: each name once")
        seen.add(label.casefold())


def _resolve_paths(recipe: Recipe, folder: Path) -> Recipe:
    def join(text: str) -> str:
        return os.path.normpath(folder / Path(text).expanduser()) if text else ""

    def start(section: Any) -> Any:
        if section is None:
            return None
        return msgspec.structs.replace(section, init_from=join(section.init_from))

    data = tuple(
        msgspec.structs.replace(section, root=join(section.root)) for section in recipe.data
    )
    return msgspec.structs.replace(
        recipe,
        data=data,
        noise=join(recipe.noise),
        face=start(recipe.face),
        voice=start(recipe.voice),
        out=join(recipe.out),
        work=join(recipe.work),
    )


def _explain(origin: str, tree: dict[str, Any], message: str) -> str:
    if "missing required field" in message:
        key = message.split("`")[1]
        place = message.partition(" - at ")[2].strip("`").removeprefix("$").strip(".")
        return f"{origin}: {'.'.join(filter(None, [place, key]))} is missing"
    example = Recipe(data=(DataSection(kind="folder", root="."),))
    return explain_problem(origin, tree, example, message)
