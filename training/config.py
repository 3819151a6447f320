"""The configuration of a training run: a named preset, a YAML file over it, `--set a.b=value` over
both, checked before anything starts.

Out: a frozen `FaceConfig`, `VoiceConfig` or `FusionConfig`, chosen by the key `task`, or a
ConfigError that names the key, the value and what is allowed. What the device fixes (labels,
log-mel) is no setting.
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


class Learning(Section, frozen=True):
    """How fast; see `schedule.Schedule` for what each one does."""

    batch_size: Count = 64
    peak_lr: Rate = 2e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.05
    betas: tuple[Share, Share] = (0.9, 0.999)
    warmup: Share = 0.06
    ema_decay: Share = 0.998
    clip_norm: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    label_smoothing: Share = 0.05
    patience: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Epochs without a better validation before it stops; 0 never stops."""
    checkpoint_every: Count = 1


class FaceNetwork(Section, frozen=True):
    dropout: Share = 0.3
    max_drop: Share = 0.1
    """Stochastic depth of the last block."""


class Stage(Section, frozen=True):
    """Epochs on pictures of some sizes, of which each batch draws one."""

    num_epochs: Count
    sizes_px: Annotated[tuple[SizePx, ...], Meta(min_length=1)]


class Round(Section, frozen=True):
    """One warm-up and one cosine; the next starts anew from its weights."""

    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]
    rate: Rate = 1.0
    """Its share of `learning.peak_lr`."""
    ema_decay: Share | None = None
    """None: that of `learning`."""


class VoiceNetwork(Section, frozen=True):
    num_members: Literal[1, 2, 4, 8] = 4
    channels: tuple[Count, Count, Count] = (16, 32, 64)
    lstm_size: Count = 64
    dropout: Share = 0.2


class VoiceAugmentation(Section, frozen=True):
    """See `voice.VoiceRecipe`."""

    num_variants: Count = 10
    crop_frames: Annotated[int, Meta(ge=32, le=300)] = 200
    mixup: Annotated[float, Meta(ge=0, le=10)] = 0.0
    noise_only: Share = 0.06


class TrainConfig(Section, frozen=True, tag_field="task"):
    """What every run can be told."""

    preset: str = ""
    """What this was made from."""
    root: str = ""
    """Folder of the data set."""
    out: str = ""
    """Folder of checkpoints and results."""
    cache: str = ""
    """Folder that `emotion-train prepare` has filled; empty: everything is decoded anew."""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    learning: Learning = Learning()


class FaceConfig(TrainConfig, frozen=True, tag="face"):
    network: FaceNetwork = FaceNetwork()
    rounds: Annotated[tuple[Round, ...], Meta(min_length=1)] = (Round((Stage(13, (64,)),)),)
    rare_label_share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    """How far rare labels are favoured at the end: 0 not at all, 1 as if all were as frequent."""
    compile_model: bool = True
    """Compile the network first: pays from some minutes of training on."""


class VoiceConfig(TrainConfig, frozen=True, tag="voice"):
    network: VoiceNetwork = VoiceNetwork()
    augmentation: VoiceAugmentation = VoiceAugmentation()
    num_epochs: Count = 120
    fold: Annotated[int, Meta(ge=0, le=3)] | None = None
    """Learn from this fold's training actors, validate on its validation actors; none: learn from
    everybody, validate on nobody."""
    noise: str = ""
    """Folder of noise recordings, of which half is heard in training; empty: noise is made up."""


class FusionConfig(TrainConfig, frozen=True, tag="fusion"):
    kind: Literal["attention", "channel"] = "attention"
    num_epochs: Count = 40
    modality_dropout: Annotated[float, Meta(ge=0, le=0.5)] = 0.15


AnyConfig = FaceConfig | VoiceConfig | FusionConfig


def list_presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(
    preset: str | None = None, file: Path | None = None, settings: Sequence[str] = ()
) -> AnyConfig:
    """Put the YAML `file` over the `preset`, and the `settings` ("a.b=value", the value in YAML)
    over both. A file may name its preset itself, by the key `preset`."""
    tree = read_config_file(file) if file is not None else {}
    named = tree.get("preset") or preset
    if file is None and preset is None:
        raise ConfigError(f"no preset and no file; presets: {', '.join(list_presets())}")
    if preset is not None and named != preset:
        raise ConfigError(f"{file}: preset is {named!r}, {preset!r} is asked for")
    if named:
        tree = _merge(_read_preset(str(named)), tree)
    for setting in settings:
        apply_override(tree, setting)
    return _convert(tree, str(file or f"preset {preset}"))


def dump_config(config: AnyConfig) -> str:
    """YAML that `load_config` reads back as the same configuration."""
    return yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False)


def change_config(config: AnyConfig, values: dict[str, Any]) -> AnyConfig:
    """`config` with other values by dotted key, such as {"learning.peak_lr": 1e-3}."""
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


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        both = isinstance(under, dict) and isinstance(value, dict)
        merged[key] = _merge(under, value) if both else value  # type: ignore[arg-type]
    return merged


def _explain(origin: str, tree: dict[str, Any], message: str) -> str:
    """What msgspec does not say of the field that tells the kinds apart."""
    problem, _, place = message.partition(" - at ")
    kinds: dict[str, type[TrainConfig]] = {
        "face": FaceConfig,
        "voice": VoiceConfig,
        "fusion": FusionConfig,
    }
    if "`task`" in problem or place.strip("`$.") == "task":
        return f"{origin}: task is {tree.get('task', 'missing')!r}, allowed: {', '.join(kinds)}"
    return explain_problem(origin, tree, kinds[tree["task"]](), message)
