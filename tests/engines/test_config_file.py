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


ALIASES = (
    f"a: &a [{'x,' * 300}]\n" + "b: &b [*a, *a, *a, *a]\n" + "c: [*b, *b, *b, *b, *b, *b, *b, *b]"
)
REFUSED = {
    "aliases of aliases": (ALIASES, "line 3"),
    "an alias of what it is in": ("a: &a [*a]\n", "line 1"),
    "depth": ("level: " + "[" * 10_000, "line 1"),
    "a key that is set twice": ("profile: workplace\nb: 1\nprofile: general\n", "line 3"),
    "the same in a section": ("a:\n  b: 1\n  b: 2\n", "line 3"),
    "a key that is a list": ("? [a]\n: 1\n", "line 1"),
    "an escape of a terminal": ("\x1b[31m: 1", "position 0"),
    "no YAML": ("root:$y$secret:1:\n\tdaemon: 2\n", "line 2"),
    "other bytes": ("caf\xe9: 1", "byte 3"),
    "a list": ("[1, 2]", "list"),
}


@pytest.mark.parametrize(("text", "place"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, text: str, place: str) -> None:
    """One short line names the file and the place, and quotes nothing: it may be another file."""
    file = tmp_path / "a.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        read_config_file(file)
    line = str(caught.value)
    assert str(file) in line
    assert place in line
    assert len(line) < 300
    assert line.isprintable()
    assert "secret" not in line


def test_aliases(tmp_path: Path) -> None:
    """Programs write them for equal parts."""
    file = tmp_path / "a.yaml"
    file.write_text("a: &part {b: 1}\nc: [*part, *part]\n")
    assert read_config_file(file) == {"a": {"b": "1"}, "c": [{"b": "1"}, {"b": "1"}]}


def test_refused_value_of_an_override() -> None:
    """Values of --set are YAML too."""
    for text in ("[" * 10_000, "{b: 1, b: 2}", "&a [*a]"):
        with pytest.raises(ConfigError, match="--set"):
            apply_override({}, f"inner={text}")


def test_long_values_are_cut() -> None:
    """The rule that they break is still there."""
    tree: dict[str, Any] = {"inner": {"number": "x" * 1_000_000}}
    message = "Expected `int`, got `str` - at `$.inner.number`"
    explained = explain_problem("a.yaml", tree, Outer(), message)
    assert len(explained) < 300
    assert "inner.number" in explained
    assert "`int`" in explained
    line = str(ConfigError(f"--set {'y' * 1_000_000!r}: wanted a.b=value"))
    assert len(line) < 1100
    assert line.endswith("wanted a.b=value")


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
