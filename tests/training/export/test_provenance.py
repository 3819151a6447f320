"""Where a bundle comes from: data sets, versions, and which state of which code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from emotion_edge.training.export import provenance
from emotion_edge.training.export.provenance import (
    ESC,
    RAVDESS,
    describe_data_sets,
    describe_origin,
    list_data_sets,
    list_versions,
    read_commit,
)


def git(root: Path, *command: str) -> str:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *command], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "code.py").write_text("1")
    git(root, "add", "code.py")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def test_commit(checkout: Path) -> None:
    """The commit, and whether the files are those of it."""
    head = git(checkout, "rev-parse", "HEAD")
    assert read_commit(checkout) == head
    (checkout / "code.py").write_text("2")
    assert read_commit(checkout) == f"{head}-dirty"
    (checkout / "code.py").write_text("1")
    (checkout / "more.py").write_text("3")
    assert read_commit(checkout) == f"{head}-dirty"


def test_no_commit(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkout, a folder inside somebody else's, one without a commit, and no git at all."""
    assert read_commit(tmp_path) is None
    (checkout / "site-packages").mkdir()
    assert read_commit(checkout / "site-packages") is None
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert read_commit(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_commit(checkout) is None


def test_data_sets_are_listed_once() -> None:
    """With every network that learned from them."""
    rows = list_data_sets(["face", "voice", "fusion"])
    assert [(row["name"], row["networks"]) for row in rows] == [
        ("FER+", ["face"]),
        ("RAVDESS", ["voice", "fusion"]),
    ]
    assert "CC BY-NC-SA 4.0" in rows[1]["licence"]
    assert "research use only" in rows[0]["licence"]
    assert all(row["source"] for row in rows)
    assert [row["name"] for row in list_data_sets(["voice"])] == ["RAVDESS"]


def test_data_sets_of_a_recipe() -> None:
    """In its own words which network learned from what."""
    rows = describe_data_sets({RAVDESS: ["voice", "fusion"], ESC: ["voice"]})
    assert [(row["name"], row["networks"]) for row in rows] == [
        ("RAVDESS", ["voice", "fusion"]),
        ("ESC", ["voice"]),
    ]
    assert all(row["licence"] and row["source"] for row in rows)


def test_versions() -> None:
    """Of Python and of what makes the files."""
    versions = list_versions()
    assert {"python", "torch", "onnx", "onnxruntime", "onnxslim"} <= set(versions)
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())


def test_origin_completes_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe says itself is not overwritten; a commit there is none of is not made up."""
    monkeypatch.setattr(provenance, "read_commit", lambda root: "abc-dirty")
    origin = describe_origin({"recipe": "mine", "voice": {"seed": 3}}, ["voice"])
    assert origin["recipe"] == "mine"
    assert origin["voice"] == {"seed": 3}
    assert origin["commit"] == "abc-dirty"
    assert [row["name"] for row in origin["data_sets"]] == ["RAVDESS"]
    assert "torch" in origin["versions"]
    assert describe_origin({"data_sets": []}, ["voice"])["data_sets"] == []
    monkeypatch.setattr(provenance, "read_commit", lambda root: None)
    assert "commit" not in describe_origin({}, ["voice"])
