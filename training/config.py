"""The configuration of a training run.

In: a named preset, a YAML file that overrides it, and `--set a.b=value`, which overrides both.
Out: a frozen `FaceConfig`, `VoiceConfig` or `FusionConfig`, chosen by the key `task`, or a
ConfigError that names the key, the value and the allowed values. Properties of the device (labels,
log-mel) are not settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from ..engines.config_file import (
    ConfigError,
    Section,
    apply_override,
    explain_problem,
    read_config_file,
)

PRESETS = Path(__file__).parent / "presets"

Share = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
SizePx = Annotated[int, Meta(ge=32, le=1024)]


class OptimizerConfig(Section, frozen=True):
    """Settings of the optimizer; see `loop.schedule.Schedule`."""

    batch_size: Count = 64
    peak_lr: Rate = 2e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.05
    betas: tuple[Share, Share] = (0.9, 0.999)
    warmup: Share = 0.06
    ema_decay: Share = 0.998
    clip_norm: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    label_smoothing: Share = 0.05
    patience: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Epochs without a better validation score before training stops; 0 never stops."""
    checkpoint_every: Count = 1


class FaceNetwork(Section, frozen=True):
    """Settings of `models.FaceNet`."""

    dropout: Share = 0.3
    max_drop: Share = 0.1
    """Stochastic depth of the last block."""


class Stage(Section, frozen=True):
    """Epochs whose batches draw one of several image sizes."""

    num_epochs: Count
    sizes_px: Annotated[tuple[SizePx, ...], Meta(min_length=1)]


class Round(Section, frozen=True):
    """One warm-up and one cosine; the next round starts from its weights."""

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]
    rate: Rate = 1.0
    """Peak rate as a share of `learning.peak_lr`."""
    ema_decay: Share | None = None
    """None for that of `learning`."""


class VoiceNetwork(Section, frozen=True):
    """Settings of `models.VoiceNet`."""

    num_members: Literal[1, 2, 4, 8] = 4
    channels: tuple[Count, Count, Count] = (16, 32, 64)
    lstm_size: Count = 64
    dropout: Share = 0.2


class VoiceAugmentation(Section, frozen=True):
    """Settings of `recipes.VoiceRecipe`."""

    num_variants: Count = 10
    crop_frames: Annotated[int, Meta(ge=32, le=300)] = 200
    mixup: Annotated[float, Meta(ge=0, le=10)] = 0.0
    noise_only: Share = 0.06


class TrainConfig(Section, frozen=True, tag_field="task"):
    """Settings of every run."""

    preset: str = ""
    """Name of the preset."""
    root: str = ""
    """Folder of the data set."""
    out: str = ""
    """Folder of checkpoints and results."""
    cache: str = ""
    """Folder filled by `emotion-train prepare`; empty for none."""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    learning: OptimizerConfig = OptimizerConfig()


class FaceConfig(TrainConfig, frozen=True, tag="face"):
    """A run of the face network."""

    network: FaceNetwork = FaceNetwork()
    rounds: Annotated[tuple[Round, ...], Meta(min_length=1)] = (Round((Stage(13, (64,)),)),)
    rare_label_share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    """Correction for label frequency: 0 none, 1 as if all labels were equally frequent."""
    compile_model: bool = True
    """Compile the network first, which pays off after some minutes of training."""


class VoiceConfig(TrainConfig, frozen=True, tag="voice"):
    """A run of the voice network."""

    network: VoiceNetwork = VoiceNetwork()
    augmentation: VoiceAugmentation = VoiceAugmentation()
    num_epochs: Count = 120
    fold: Annotated[int, Meta(ge=0, le=3)] | None = None
    """Train and validate on the actors of this fold; None trains on all actors found, without
    validation."""
    noise: str = ""
    """Folder of noise recordings, half of them for training; empty for synthetic noise."""


class FusionConfig(TrainConfig, frozen=True, tag="fusion"):
    """A run of a fusion network."""

    kind: Literal["attention", "channel"] = "attention"
    num_epochs: Count = 40
    modality_dropout: Annotated[float, Meta(ge=0, le=0.5)] = 0.15


AnyConfig = FaceConfig | VoiceConfig | FusionConfig


def list_presets() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> AnyConfig:
    """Load the `preset`, override it by the YAML `file`, and both by the `settings` ("a.b=value",
    the value in YAML). A file may name its preset by the key `preset`."""
    tree = read_config_file(file) if file is not None else {}
    named = tree.get("preset") or preset
    if file is None and preset is None:
        raise ConfigError(f"no preset and no file; presets: {', '.join(list_presets())}")
    if preset is not None and named != preset:
        raise ConfigError(f"{file}: preset is {named!r}, requested is {preset!r}")
    if named:
        tree = _merge(_read_preset(str(named)), tree)
    for setting in settings:
        apply_override(tree, setting)
    return _convert(tree, str(file or f"preset {preset}"))


def dump_config(config: AnyConfig) -> str:
    """Return YAML that `load_config` reads as the same configuration."""
    return yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False)


def change_config(config: AnyConfig, values: dict[str, Any]) -> AnyConfig:
    """Return `config` with other values by dotted key, such as {"learning.peak_lr": 1e-3}."""
    tree = msgspec.to_builtins(config)
    for key, value in values.items():
        apply_override(tree, f"{key}={value}")
    return _convert(tree, "configuration")


def _convert(tree: dict[str, Any], origin: str) -> AnyConfig:
    try:
        return msgspec.convert(tree, AnyConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(origin, tree, str(error))) from error


def _read_preset(name: str) -> dict[str, Any]:
    if name not in list_presets():
        raise ConfigError(f"preset {name!r} is unknown, allowed: {', '.join(list_presets())}")
    return {**read_config_file(PRESETS / f"{name}.yaml"), "preset": name}


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        original = base.get(key)
        both = isinstance(original, dict) and isinstance(value, dict)
        merged[key] = _merge(original, value) if both else value  # type: ignore[arg-type]
    return merged


def _explain(origin: str, tree: dict[str, Any], message: str) -> str:
    """Explain an error of the tag field `task`, whose allowed values msgspec does not name."""
    problem, _, location = message.partition(" - at ")
    kinds: dict[str, type[TrainConfig]] = {
        "face": FaceConfig,
        "voice": VoiceConfig,
        "fusion": FusionConfig,
    }
    if "`task`" in problem or location.strip("`$.") == "task":
        return f"{origin}: task is {tree.get('task', 'missing')!r}, allowed: {', '.join(kinds)}"
    return explain_problem(origin, tree, kinds[tree["task"]](), message)
