"""`emotion-edge config`: the configuration as YAML, with what each setting means.

In: a configuration. Out: text that `--config` reads back.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from ...engines.config_file import Section
from .. import config as config_module
from ..config import Config, ConfigError

HEAD = """\
# emotion-edge: every setting, its meaning and its value. Read by --config FILE.
"""
WIDTH = 98


def run_config(config: Config, init: Path | None) -> int:
    """Print the configuration, or write it to `init`, which must not exist. Raises ConfigError."""
    text = render_config(config)
    if init is None:
        sys.stdout.write(text)
        return 0
    try:
        with init.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"--init {init}: exists; it is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"--init {init}: {error.strerror}") from error
    return 0


def render_config(config: Config) -> str:
    """Return the YAML of a configuration, each setting below its docstring."""
    return HEAD + "".join(_render_section(config, ""))


def _render_section(section: Section, indent: str) -> Iterator[str]:
    meanings = read_meanings(type(section).__name__)
    for field in msgspec.structs.fields(type(section)):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            yield f"\n{field.name}:\n"
            yield from _render_section(value, f"{indent}  ")
            continue
        if not indent and field.name == "profile":
            yield "\n"
        for line in textwrap.wrap(meanings.get(field.name, ""), WIDTH - len(indent)):
            yield f"{indent}# {line}\n"
        yield f"{indent}{field.name}: {_show_value(value)}\n"


def _show_value(value: object) -> str:
    """Return one value in YAML, in one line."""
    plain = list(value) if isinstance(value, tuple) else value
    # In a list, because YAML ends a lone value with a line of its own.
    text = yaml.safe_dump([plain], default_flow_style=True, allow_unicode=True, width=1_000_000)
    return text.strip()[1:-1]


def read_meanings(name: str) -> dict[str, str]:
    """Return the docstrings below the fields of one of the configuration's classes."""
    tree = ast.parse(inspect.getsource(getattr(config_module, name)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    meanings = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            meanings[field.target.id] = " ".join(str(text.value.value).split())
    return meanings
