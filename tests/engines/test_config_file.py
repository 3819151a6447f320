"""The configuration file, overrides, and the explanation of errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from emotion_edge.engines.config_file import (
    ConfigError,
    Section,
    apply_override,
    explain_problem,
    list_texts,
    quote,
    read_config_file,
)


class Inner(Section, frozen=True):
    number: int = 1
    kind: Literal["a", "b"] = "a"
    file: Annotated[str, Meta(min_length=1)] = "x"


class Outer(Section, frozen=True):
    name: str = ""
    inner: Inner = Inner()
    list_of: tuple[Inner, ...] = (Inner(),)


def test_every_value_is_a_string(tmp_path: Path) -> None:
    """YAML converts nothing: null, on and 1e-4 stay strings."""
    file = tmp_path / "a.yaml"
    file.write_text("a: null\nb: {c: on, d: 1e-4}\ne: [1, two]\n")
    assert read_config_file(file) == {"a": "null", "b": {"c": "on", "d": "1e-4"}, "e": ["1", "two"]}
    file.write_text("")
    assert read_config_file(file) == {}


def test_overrides() -> None:
    """Values are replaced, and missing sections created."""
    tree = {"a": {"b": "1"}}
    apply_override(tree, "a.c=[1, 2]")
    apply_override(tree, "d.e.f=x=y")
    apply_override(tree, "a.b=")
    assert tree == {"a": {"b": "", "c": ["1", "2"]}, "d": {"e": {"f": "x=y"}}}


NAMES = [
    "a: b",
    "x #1",
    "[",
    " two  words ",
    "it's",
    "'",
    '"',
    '"a" and "b"',
    "'a' or 'b'",
    "new\nline",
    "- x",
    "&a *b !c %d @e `f",
    os.fsdecode(b"caf\xe9"),
    "\x1b",
]


def test_texts_are_found() -> None:
    """Not those of which only some are allowed."""
    assert list(list_texts(Outer())) == ["name", "inner.file"]


@pytest.mark.parametrize("name", NAMES)
def test_text_is_not_yaml(name: str) -> None:
    """A text is taken as it is; quotes around the whole are removed."""
    tree: dict[str, Any] = {}
    apply_override(tree, f"inner.file={name}", {"inner.file"})
    apply_override(tree, f"name={quote(name)}", {"name"})
    assert tree == {"inner": {"file": name}, "name": name}


def test_text_in_double_quotes() -> None:
    tree: dict[str, Any] = {}
    apply_override(tree, r'name="a\tb: #1"', {"name"})
    assert tree == {"name": "a\tb: #1"}


@pytest.mark.parametrize("setting", ["a", "=1", "a.=1", ".a=1", "a..b=1", "a=[", "a.b.c=1"])
def test_invalid_overrides(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_override({"a": {"b": "1"}}, setting)


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("Expected `int` - at `$.inner.number`", "x: inner.number is 'no': expected `int`"),
        (
            "Object contains unknown field `nmber` - at `$.inner`",
            "x: unknown key inner.nmber, allowed: number, kind, file",
        ),
        (
            "Object contains unknown field `n` - at `$.list_of[0]`",
            "x: unknown key list_of[0].n, allowed: number, kind, file",
        ),
    ],
)
def test_errors_are_explained(message: str, wanted: str) -> None:
    tree = {"inner": {"number": "no"}, "list_of": [{"n": "1"}]}
    assert explain_problem("x", tree, Outer(), message) == wanted
