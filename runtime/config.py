"""The configuration: one YAML file and `--set a.b=value`, checked before anything starts.

Out: a frozen `Config`, or a ConfigError that names the key, the value and what is allowed.
What belongs to the model (labels, sizes, thresholds, levels) is in the bundle, never here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

MAX_CONFIG_BYTES = 1 << 20


class ConfigError(ValueError):
    """A setting that cannot be used; one line."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are errors."""


class Source(Section, frozen=True):
    name: str = "auto"
    """"auto" (a camera if there is one, else the demo), "camera", /dev/videoN, "demo" or a file."""
    microphone: str = "auto"
    """With a camera: "auto", "none", "default", an index or part of a device's name."""
    width_px: Annotated[int, Meta(ge=64, le=4096)] = 1280
    height_px: Annotated[int, Meta(ge=64, le=4096)] = 720
    camera_fps: Annotated[float, Meta(ge=1, le=240)] = 30.0
    """What the camera is asked for; it may give another."""
    loop: bool = False
    """Start a file over at its end."""


class Engines(Section, frozen=True):
    name: str = "auto"
    """"auto", "onnx" or "null" (no model: for tests)."""
    num_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """For each network; 0 takes half of the cores."""


class Face(Section, frozen=True):
    yunet_file: str = ""
    """A YuNet ONNX file to find faces with; empty: OpenCV's Haar cascade."""
    lost_after_s: Annotated[float, Meta(ge=0, le=60)] = 0.7
    """A face not found again for this long is gone."""


class Voice(Section, frozen=True):
    min_level_db: Annotated[float, Meta(ge=-100, le=0)] = -55.0
    """Sound whose loud parts stay under this (dB of full scale) is taken for silence."""


class Sync(Section, frozen=True):
    max_wait_ms: Annotated[float, Meta(ge=0, le=40)] = 5.0
    """A picture waits at most this long for the sound that belongs to it."""


class Output(Section, frozen=True):
    smoothing_s: Annotated[float, Meta(ge=0, le=30)] = 0.5
    """Time constant of the calm of the output; 0 shows every picture's own."""
    sinks: tuple[str, ...] = ("console",)
    """Any of "console", "jsonl:FILE", "jsonl:-", "null"."""


class Config(Section, frozen=True):
    """Everything a run can be told."""

    source: Source = Source()
    engines: Engines = Engines()
    face: Face = Face()
    voice: Voice = Voice()
    sync: Sync = Sync()
    output: Output = Output()
    bundle: str = ""
    """Folder of the bundle; empty: the one that ships."""
    level: str = ""
    """Name of the bundle's quality level; empty: the first."""
    budget_ms: Annotated[float, Meta(gt=0, le=10_000)] = 45.0
    """Capture to result."""


def load_config(file: Path | None, settings: Sequence[str] = ()) -> Config:
    """Read `file` (YAML), put the `settings` ("a.b=value", the value in YAML) over it."""
    tree = _read_yaml(file) if file is not None else {}
    origin = str(file) if file is not None else "configuration"
    for setting in settings:
        _put(tree, setting)
    try:
        return msgspec.convert(tree, Config, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(origin, tree, str(error))) from error


def _parse_yaml(text: str) -> Any:
    """Every value as text, for its field to read: YAML's own guess would take the engine "null"
    for nothing, microphone 1 for a number and a source called `on` for true."""
    value = yaml.load(text, Loader=yaml.BaseLoader)
    return "" if value is None else value


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{file}: over {MAX_CONFIG_BYTES} bytes, that is no configuration")
        tree = _parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if tree in (None, ""):
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: is {type(tree).__name__}, a mapping of keys is wanted")
    return tree


def _put(tree: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not all([*parents, key]):
        raise ConfigError(f"--set {setting!r}: wanted a.b=value")
    try:
        value = _parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not YAML") from error
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {setting!r}: {parent} is a value, not a section")
    tree[key] = value


def _explain(origin: str, tree: dict[str, Any], message: str) -> str:
    """msgspec says what is wrong and where (`... - at `$.a.b``); add the value and the choice."""
    problem, _, place = message.partition(" - at ")
    path = place.strip("`").removeprefix("$").strip(".")
    value: Any = tree
    section: Any = Config()
    for key in filter(None, path.split(".")):
        value = value.get(key.partition("[")[0]) if isinstance(value, dict) else value
        section = getattr(section, key, section)
    if "unknown field" in problem:
        name = problem.split("`")[1]
        allowed = ", ".join(section.__struct_fields__)
        return f"{origin}: unknown key {'.'.join(filter(None, [path, name]))}, allowed: {allowed}"
    return f"{origin}: {path} is {value!r}: {problem[0].lower()}{problem[1:]}"
