"""The configuration file: one YAML file, overridden by `--set a.b=value`.

In: a file and overrides. Out: a tree of strings for a msgspec struct to convert, or a ConfigError
that names the key, the value and the allowed values. Runtime and training have their own structs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import yaml

from .. import Error

MAX_CONFIG_BYTES = 1 << 20

Tree = dict[str, Any]


class ConfigError(Error, ValueError):
    """An invalid setting or input of the user, in one line."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are errors."""


def read_config_file(file: Path) -> Tree:
    """Read a YAML file; an empty one is an empty tree. Raises ConfigError."""
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


def list_texts(defaults: Section, prefix: str = "") -> Iterator[str]:
    """Yield the names, such as "source.name", of the settings that are any text."""
    types = get_type_hints(type(defaults))
    for name in defaults.__struct_fields__:
        value = getattr(defaults, name)
        if isinstance(value, Section):
            yield from list_texts(value, f"{prefix}{name}.")
        elif types[name] is str:
            yield prefix + name


def apply_override(tree: Tree, setting: str, texts: Collection[str] = ()) -> None:
    """Set "a.b=value" in `tree`, the value in YAML. Raises ConfigError.

    A setting in `texts` takes its value as it is, because any name may be that of a file: in YAML,
    "a: b #1.mp4" would be something else. Only a whole value in quotes loses them.
    """
    path, equals, text = setting.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not all([*parents, key]):
        raise ConfigError(f"--set {setting!r}: wanted a.b=value")
    try:
        value = _unquote(text) if path.strip() in texts else _parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not YAML") from error
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {setting!r}: {parent} is a value, not a section")
    tree[key] = value


def quote(text: str) -> str:
    """Quote any text as a YAML string."""
    return "'" + text.replace("'", "''") + "'"


def explain_problem(origin: str, tree: Tree, defaults: Section, message: str) -> str:
    """Add the value and the allowed values to msgspec's message ("... - at `$.a.b`").

    `origin` names the file, and `defaults` is a valid configuration of the kind of `tree`.
    """
    problem, _, location = message.partition(" - at ")
    path = location.strip("`").removeprefix("$").strip(".")
    value: Any = tree
    section: Any = defaults
    holder = defaults
    for key in filter(None, path.split(".")):
        name, _, index = key.partition("[")
        value = value.get(name) if isinstance(value, dict) else value
        if isinstance(value, list) and index:
            value = value[int(index.rstrip("]"))]
        section = getattr(section, name, section)
        if isinstance(section, tuple) and section and isinstance(section[0], Section):
            section = section[0]  # all have one type
        if isinstance(section, Section):
            holder = section
    if "unknown field" in problem:
        name = problem.split("`")[1]
        allowed = ", ".join(section.__struct_fields__)
        return f"{origin}: unknown key {'.'.join(filter(None, [path, name]))}, allowed: {allowed}"
    if "enum value" in problem:
        choices = get_args(get_type_hints(type(holder))[path.rpartition(".")[2]])
        return f"{origin}: {path} is {value!r}, allowed: {', '.join(map(str, choices))}"
    return f"{origin}: {path} is {value!r}: {problem[0].lower()}{problem[1:]}"


def _unquote(text: str) -> str:
    """Return a text without YAML's quotes; not by YAML, which refuses some characters of names."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        inner = text[1:-1].replace("''", "'")
        return inner if quote(inner) == text else text
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(yaml.load(text, Loader=yaml.BaseLoader))
        except yaml.YAMLError:
            pass
    return text


def _parse_yaml(text: str) -> Any:
    """Parse every value as a string, which its field converts. YAML's own types would turn the
    engine "null" into None, a source `on` into True, and 1e-4 into a string but 1.0e-4 into a
    number."""
    value = yaml.load(text, Loader=yaml.BaseLoader)
    return "" if value is None else value
