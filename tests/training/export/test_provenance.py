"""Provenance of a bundle: data sets, versions, and the commit of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emotion_edge.engines.bundles import DEFAULT_BUNDLE, Manifest, load_bundle
from emotion_edge.training.export import provenance
from emotion_edge.training.export.provenance import (
    ESC,
    MAX_LISTED_PEOPLE,
    RAVDESS,
    add_people,
    add_shared_data,
    count_people,
    describe_data_sets,
    describe_origin,
    describe_people,
    find_overlap,
    list_versions,
    read_commit,
)


def git(root: Path, *command: str) -> str:
    author = ["-c", "user.name=Author", "-c", "user.email=author@example.org"]
    result = subprocess.run(
        ["git", "-C", str(root), *author, *command], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "code.py").write_text("1")
    git(root, "add", "code.py")
    git(root, "commit", "--quiet", "--message", "Begin")
    return root


def test_commit(checkout: Path) -> None:
    """The commit, and whether files differ from it."""
    head = git(checkout, "rev-parse", "HEAD")
    assert read_commit(checkout) == head
    (checkout / "code.py").write_text("2")
    assert read_commit(checkout) == f"{head}-dirty"
    (checkout / "code.py").write_text("1")
    (checkout / "more.py").write_text("3")
    assert read_commit(checkout) == f"{head}-dirty"


def test_no_commit(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkout, a folder inside another checkout, one without a commit, and no git."""
    assert read_commit(tmp_path) is None
    (checkout / "site-packages").mkdir()
    assert read_commit(checkout / "site-packages") is None
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert read_commit(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_commit(checkout) is None


def test_data_sets_of_a_recipe() -> None:
    """With the networks that the recipe names."""
    rows = describe_data_sets({RAVDESS: ["voice", "fusion"], ESC: ["voice"]})
    assert [(row["name"], row["networks"]) for row in rows] == [
        ("RAVDESS", ["voice", "fusion"]),
        ("ESC", ["voice"]),
    ]
    assert all(row["licence"] and row["source"] for row in rows)
    assert "CC BY-NC-SA 4.0" in rows[0]["licence"]


def test_data_of_shared_networks() -> None:
    """What the networks of the bundle that ships were trained on is stated once, in every bundle
    that holds them, and data that nobody has stated as well."""
    shipped = [
        {"name": "FER+", "licence": "x", "networks": ["face", "face detector"]},
        {"name": "RAVDESS", "licence": "y", "networks": ["voice", "face detector (actor 1)"]},
        {"name": "ESC", "licence": "z", "networks": ["voice activity"]},
    ]
    mine = {"data_sets": describe_data_sets({RAVDESS: ["voice"]})}
    added = add_shared_data(mine, ["face", "voice"], ["face detector"], shipped)
    assert {row["name"]: row["networks"] for row in added["data_sets"]} == {
        "RAVDESS": ["voice", "face detector (actor 1)"],
        "unknown data": ["face"],
        "FER+": ["face detector"],
    }
    assert add_shared_data(added, ["face", "voice"], ["face detector"], shipped) == added
    assert mine["data_sets"][0]["networks"] == ["voice"]


def test_versions() -> None:
    """Versions of Python and of the libraries that write the files."""
    versions = list_versions()
    assert {"python", "torch", "onnx", "onnxruntime", "onnxslim"} <= set(versions)
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())


def test_describe_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given entries are not overwritten, and no data set is made up; no commit, no entry."""
    monkeypatch.setattr(provenance, "read_commit", lambda root: "abc-dirty")
    origin = describe_origin({"recipe": "mine", "voice": {"seed": 3}})
    assert origin["recipe"] == "mine"
    assert origin["voice"] == {"seed": 3}
    assert origin["commit"] == "abc-dirty"
    assert "data_sets" not in origin
    assert "torch" in origin["versions"]
    monkeypatch.setattr(provenance, "read_commit", lambda root: None)
    assert "commit" not in describe_origin({})


PEOPLE = {
    "face": {"training": ["mine:ann", "mine:bob", ""], "validation": ["mine:cid"]},
    "voice": {"training": ["ravdess:02"], "validation": ["mine:ann"]},
}


def with_provenance(provenance: dict[str, Any]) -> Manifest:
    return msgspec.structs.replace(load_bundle(DEFAULT_BUNDLE).manifest, provenance=provenance)


@pytest.mark.parametrize("salt", ["", "a1b2"])
def test_people_are_found_again(salt: str) -> None:
    """By role and network, plain or hashed; each in the first role only; nobody unknown."""
    described = describe_people(PEOPLE, salt)
    assert ("ann" in str(described)) == (not salt)
    described = add_people(described, "calibration", {"face": ["mine:ann", "mine:dan"]})
    manifest = with_provenance(described)
    everybody = ["mine:ann", "mine:bob", "mine:cid", "mine:dan", "ravdess:02", "other:ann", ""]
    assert find_overlap(manifest, everybody, "face") == {
        "training": ["mine:ann", "mine:bob"],
        "validation": ["mine:cid"],
        "calibration": ["mine:dan"],
    }
    assert find_overlap(manifest, everybody, "voice") == {
        "training": ["ravdess:02"],
        "validation": ["mine:ann"],
    }
    assert find_overlap(manifest, everybody, "fusion") == {
        "training": ["mine:ann", "mine:bob", "ravdess:02"],
        "validation": ["mine:cid"],
        "calibration": ["mine:dan"],
    }
    assert count_people(described, "face") == {"training": 2, "validation": 1, "calibration": 2}
    assert count_people(described, "fusion") == {}


@pytest.mark.parametrize("salt", ["", "a1b2"])
def test_people_of_a_folder_elsewhere(salt: str) -> None:
    """A folder has the name of its path or any end of it; another folder has other people."""
    manifest = with_provenance(describe_people({"face": {"training": ["a/mine:ann"]}}, salt))
    for found in ("/data/a/mine:ann", "a/mine:ann"):
        assert find_overlap(manifest, [found], "face") == {"training": [found]}
    for other in ("/data/b/mine:ann", "mine:ann", "/data/a/mine:bob"):
        assert find_overlap(manifest, [other], "face") == {}


def test_more_people_than_a_manifest_takes() -> None:
    """Their number is kept."""
    names = [f"mine:{i}" for i in range(MAX_LISTED_PEOPLE + 1)]
    described = describe_people({"face": {"training": names}})
    assert described["people"]["face"]["training"] == len(names)
    assert count_people(described, "face") == {"training": len(names)}
    assert find_overlap(with_provenance(described), names, "face") == {}


def test_people_of_the_bundle_that_ships() -> None:
    """It lists the actors of its voice network among the settings."""
    manifest = load_bundle(DEFAULT_BUNDLE).manifest
    assert find_overlap(manifest, ["ravdess:01", "ravdess:02"], "voice") == {
        "training": ["ravdess:02"]
    }
    assert find_overlap(manifest, ["ravdess:02"], "face") == {}
    assert count_people(manifest.provenance, "voice") == {"training": 20}


@pytest.mark.parametrize("people", [None, [], {"face": 3}, {"face": {"training": "mine:ann"}}])
def test_unusual_people(people: Any) -> None:
    """Anything unexpected in a bundle is ignored."""
    provenance = {"people": people, "voice": {"actors": ["x", None]}}
    for network in ("face", "voice", "fusion"):
        assert find_overlap(with_provenance(provenance), ["mine:ann"], network) == {}
