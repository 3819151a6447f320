"""The doctor's look at the bundle: the one that is named, the one that was chosen, a fall-back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.engines.bundles.selection import Selection
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.host import check_bundle


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleStore:
    """A device's own, in which nothing is installed."""
    monkeypatch.setenv("EMOTION_EDGE_STATE", str(tmp_path / "state"))
    return BundleStore(tmp_path / "state")


def choose(store: BundleStore, bundle: Path) -> Path:
    """As an installation does, less the proof."""
    name = load_bundle(bundle).sha256[:16]
    shutil.copytree(bundle, store.find_folder(name))
    store.write_selection(Selection(current=name))
    return store.find_folder(name)


@pytest.mark.parametrize("given", ["argument", "configuration"])
def test_bundle_problem_is_one_line(tmp_path: Path, given: str) -> None:
    """What the bundle's reader refuses is passed on in its own words."""
    missing = tmp_path / "missing"
    if given == "argument":
        check = check_bundle(missing, Config())
    else:
        check = check_bundle(None, Config(bundle=str(missing)))
    assert check.state == "fail"
    assert str(missing) in check.message
    assert "\n" not in check.message


def test_bundle_of_a_run(tmp_path: Path, null_bundle: Path) -> None:
    """The argument goes before the configuration; without both it is the one that ships. A key
    that cannot be read is a problem too."""
    configured = Config(bundle=str(tmp_path / "missing"))
    assert check_bundle(null_bundle, configured) == Check("bundle", "ok", f"{null_bundle} (null)")
    shipped = check_bundle(None, Config())
    assert shipped.state == "ok"
    assert shipped.message.startswith(str(DEFAULT_BUNDLE))
    no_key = check_bundle(None, Config(public_key=str(tmp_path / "none.pem")))
    assert no_key.state == "fail"
    assert "none.pem" in no_key.message


def test_installed_bundle(store: BundleStore, null_bundle: Path) -> None:
    """The one that was chosen."""
    folder = choose(store, null_bundle)
    assert check_bundle(None, Config()) == Check("bundle", "ok", f"{folder} (null)")


@pytest.mark.parametrize("broken", ["damaged", "gone"])
def test_fall_back(store: BundleStore, null_bundle: Path, broken: str) -> None:
    """A run goes on with another bundle than the one that was chosen: that is not well. One that
    is named is not the store's concern."""
    folder = choose(store, null_bundle)
    if broken == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "face.onnx").write_bytes(b"?")
    check = check_bundle(None, Config())
    assert check.state == "warn"
    assert check.message.startswith(f"falls back to {DEFAULT_BUNDLE} (default): bundle ")
    assert f"{folder.name} was chosen and cannot be used" in check.message
    assert check_bundle(null_bundle, Config()).state == "ok"


def test_selection_that_cannot_be_read(store: BundleStore) -> None:
    """Damaged, or another user's: what the service runs is not known then."""
    store.folder.mkdir(parents=True)
    (store.folder / "selection.json").write_text("{")
    check = check_bundle(None, Config())
    assert check.state == "warn"
    assert "selection.json: damaged" in check.message
