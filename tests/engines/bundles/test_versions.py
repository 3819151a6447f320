"""Versions: a signed bundle that is older than one installed before is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

pytest.importorskip("cryptography", reason="cryptography is in the signed extra")

from emotion_edge.engines.base import null_reporter
from emotion_edge.engines.bundles.archive import open_archive, open_bundle_source
from emotion_edge.engines.bundles.manifest import BundleError, extend_bundle
from emotion_edge.engines.bundles.selection import MAX_FAILED_STARTS
from emotion_edge.engines.bundles.store import BundleStore

from ..power_cuts import write_bundle
from ..signing import KeyPair, write_keys

Install = Callable[..., None]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "state", sleep=lambda _: None)


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return write_keys(tmp_path / "keys")


@pytest.fixture
def install(tmp_path: Path, store: BundleStore, keys: KeyPair) -> Install:
    """Install a bundle of a version, signed unless the store asks for no signature."""

    def run(version: int, *, signed: bool = True, allow_downgrade: bool = False) -> None:
        folder = tmp_path / f"v{version}"
        if not folder.exists():
            extend_bundle(write_bundle(folder, folder.name), version=version)
            keys.sign(folder)
        key = keys.public_key if signed else None
        with open_bundle_source(folder) as handle, open_archive(handle, folder) as archive:
            store.install(
                archive, key, lambda _: None, null_reporter, allow_downgrade=allow_downgrade
            )
        store.write_selection(store.read_selection().end_trial())

    return run


def load_current(store: BundleStore, keys: KeyPair) -> int:
    return store.load(store.read_selection().current, keys.public_key).manifest.version


def test_older_signed_bundle(install: Install, store: BundleStore, keys: KeyPair) -> None:
    """It changes nothing, unless it is asked for; then newer ones count from there."""
    install(5)
    for version in (4, 0):
        with pytest.raises(BundleError, match=rf"version is {version}.* 5 .*--allow-downgrade"):
            install(version)
        assert load_current(store, keys) == 5
    install(4, allow_downgrade=True)
    assert load_current(store, keys) == 4
    with pytest.raises(BundleError, match="version is 0"):
        install(0)
    install(5)
    assert load_current(store, keys) == 5


def test_way_back(install: Install, store: BundleStore, keys: KeyPair) -> None:
    """A rollback is what the previous bundle is kept for; it does not open the way to others, and
    neither does a bundle that fails."""
    install(4)
    install(5)
    store.roll_back(keys.public_key, lambda _: None, null_reporter)
    assert load_current(store, keys) == 4
    with pytest.raises(BundleError, match="version is 3"):
        install(3)
    store.write_selection(store.read_selection().end_trial())
    install(6)
    on_trial = replace(store.read_selection(), on_trial=True, failed_starts=MAX_FAILED_STARTS)
    store.write_selection(on_trial.abandon_failed())
    assert load_current(store, keys) == 4
    with pytest.raises(BundleError, match="version is 5"):
        install(5)


def test_damaged_selection(install: Install, store: BundleStore) -> None:
    """The bundles that are there tell how far the device was."""
    install(5)
    (store.folder / "selection.json").write_text("{")
    with pytest.raises(BundleError, match="version is 4"):
        install(4)


def test_unsigned_bundles_have_no_order(install: Install, store: BundleStore) -> None:
    """Whoever may install any bundle may install an old one. Their versions are not believed
    later either."""
    install(5, signed=False)
    install(4, signed=False)
    assert store.read_selection().version == 0
    install(1)
