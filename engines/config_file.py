"""The configuration file: one YAML file, overridden by `--set a.b=value`.

In: a file and overrides. Out: a tree of strings for a msgspec struct to convert, or a ConfigError
that names the key, the value and the allowed values. Runtime and training have their own structs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import yaml

from .. import Error
from .plain_text import make_plain, show_value

MAX_CONFIG_BYTES = 1 << 20
MAX_DEPTH = 20
"""Of values in values, several times what any configuration has."""
MAX_ALIASED = 10_000
"""Values that all aliases of a file stand for. Programs write aliases for equal parts."""

NO_TEXT = "no text: a part of it is no character"
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Tree = dict[str, Any]


class ConfigError(Error, ValueError):
    """An invalid setting or input of the user, in one line."""

    def __init__(self, text: str) -> None:
        """Make the text plain: a configuration may hold anything."""
        super().__init__(make_plain(text))


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all sections: unknown keys are errors."""


def read_config_file(file: Path) -> Tree:
    """Read a YAML file; an empty one is an empty tree. Raises ConfigError."""
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"over {MAX_CONFIG_BYTES} bytes, that is no configuration")
        tree = _parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not YAML: {_explain_syntax(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
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
    if not equals or not all(part and part.isprintable() for part in [*parents, key]):
        raise ConfigError(f"--set {setting!r}: wanted a.b=value")
    try:
        value = _unquote(text) if path.strip() in texts else _parse_yaml(text)
        if isinstance(value, str):
            _check_text(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is not YAML") from error
    except ConfigError as error:
        raise ConfigError(f"--set {setting!r}: {error}") from error
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
    holder: msgspec.Struct = defaults
    for key in filter(None, path.split(".")):
        name, _, index = key.partition("[")
        value = value.get(name) if isinstance(value, dict) else value
        if isinstance(value, list) and index:
            value = value[int(index.rstrip("]"))]
        section = getattr(section, name, section)
        if isinstance(section, tuple) and section and isinstance(section[0], msgspec.Struct):
            section = section[0]  # all have one type
        if isinstance(section, msgspec.Struct):
            holder = section
    if "unknown field" in problem:
        name = _show_key(problem.split("`")[1])
        allowed = ", ".join(section.__struct_fields__)
        return f"{origin}: unknown key {'.'.join(filter(None, [path, name]))}, allowed: {allowed}"
    if "enum value" in problem:
        name, _, index = path.rpartition(".")[2].partition("[")
        choices = get_args(get_type_hints(type(holder))[name])
        if index:
            choices = get_args(choices[0])
        allowed = ", ".join(map(str, choices))
        return f"{origin}: {path} is {show_value(value)}, allowed: {allowed}"
    return f"{origin}: {path} is {show_value(value)}: {problem[0].lower()}{problem[1:]}"


def _unquote(text: str) -> str:
    """Return a text without YAML's quotes; not by YAML, which refuses some characters of names."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        inner = text[1:-1].replace("''", "'")
        return inner if quote(inner) == text else text
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(yaml.load(text, Loader=yaml.BaseLoader))  # one string
        except yaml.YAMLError:
            pass
    return text


def _parse_yaml(text: str) -> Any:
    """Parse every value as a string, which its field converts. YAML's own types would turn the
    engine "null" into None, a source `on` into True, and 1e-4 into a string but 1.0e-4 into a
    number."""
    value = yaml.load(text, Loader=_Loader)
    return "" if value is None else value


class _Loader(yaml.BaseLoader):
    """Refuses what costs more than its text: many aliases, which grow to gigabytes, and depth. Of
    two equal keys YAML would take the last in silence."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._aliased = 0
        self._sizes: dict[int, int] = {}
        """Nodes in each complete node, what its aliases name included, by id."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"line {_line(event)}: deeper than {MAX_DEPTH} values in each other")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            self._aliased += self._sizes.get(id(node), MAX_ALIASED + 1)  # it names what it is in
            if self._aliased > MAX_ALIASED:
                raise ConfigError(
                    f"line {_line(event)}: *{event.anchor}: aliases of over {MAX_ALIASED} values"
                )
        elif node is not None:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(each)] for each in _list_parts(node))
        return node

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        value = super().construct_scalar(node)
        try:
            _check_text(value)
            value.encode()  # the bytes of another code, which an argument may have, cannot be here
        except (ConfigError, UnicodeEncodeError) as error:
            raise ConfigError(f"line {_line(node)}: {show_value(value)}: {NO_TEXT}") from error
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(f"line {_line(key_node)}: a key is not a text")
            if key in keys:
                raise ConfigError(f"line {_line(key_node)}: {_show_key(key)} is set twice")
            keys.add(key)
        return super().construct_mapping(node, deep)


def _check_text(text: str) -> None:
    """Raise ConfigError for a text that cannot be given to the system: nothing has such a name."""
    try:
        fits = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # half of a character that is written as two
        fits = False
    if not fits:
        raise ConfigError(f"{show_value(text)}: {NO_TEXT}")


def _show_key(key: str) -> str:
    """Return a key, unless it is none of any configuration: the file may be another one."""
    return key if _KEY.fullmatch(key) else "(no name of a setting)"


def _list_parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _explain_syntax(error: Exception) -> str:
    """Return the fault and its line, without the line: the file may be another one, with secrets in
    it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, yaml.reader.ReaderError):
        return f"a character that is not allowed at position {error.position}"
    return type(error).__name__


def _line(place: Any) -> int:
    """Return the line of an event or a node."""
    return int(place.start_mark.line) + 1
