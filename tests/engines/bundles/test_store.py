"""The bundle store: installation, rollback, locks, and failures that change nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError, null_reporter
from emotion_edge.engines.bundles import store as bundle_store
from emotion_edge.engines.bundles.archive import open_archive, open_bundle_source
from emotion_edge.engines.bundles.manifest import (
    DEFAULT_BUNDLE,
    MANIFEST,
    SIGNATURE,
    Bundle,
    BundleError,
    load_bundle,
)
from emotion_edge.engines.bundles.selection import SHIPPED, Selection
from emotion_edge.engines.bundles.signature import PublicKey
from emotion_edge.engines.bundles.store import BundleStore

from ..power_cuts import write_bundle


@pytest.fixture
def bundles(tmp_path: Path) -> Callable[[str], Path]:
    """A function that returns the folder of the bundle of a name."""
    (tmp_path / "made").mkdir()

    def make(name: str) -> Path:
        folder = tmp_path / "made" / name
        return folder if folder.exists() else write_bundle(folder, name)

    return make


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(tmp_path / "state", sleep=lambda _: None)


def install(
    store: BundleStore,
    bundle: Path,
    verify: Callable[[Bundle], None] = lambda _: None,
    key: PublicKey | None = None,
    report: Callable[[str], None] = null_reporter,
) -> str | None:
    """Return the name in the store; None for the current bundle."""
    with open_bundle_source(bundle) as handle, open_archive(handle, bundle) as archive:
        is_new = store.install(archive, key, verify, report)
        return archive.sha256[:16] if is_new else None


def mark_good(store: BundleStore) -> None:
    store.write_selection(store.read_selection().end_trial())


def list_all(store: BundleStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} - {"install.lock", "selection.lock"}


def test_installs(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """The copy is complete, read-only, and selected on trial."""
    folder = bundles("one")
    verified: list[Bundle] = []
    name = install(store, folder, verified.append)
    assert name is not None
    assert name == load_bundle(folder).sha256[:16]
    assert store.read_selection() == Selection(current=name, on_trial=True)
    bundle = store.load(name, None)
    assert bundle.path == store.folder / name
    assert bundle.manifest == load_bundle(folder).manifest == verified[0].manifest
    assert {path.stat().st_mode & 0o222 for path in bundle.path.iterdir()} == {0}
    assert list_all(store) == {name, "selection.json"}


def test_verified_before_it_is_renamed(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """Until then it is neither listed nor selected."""

    def verify(bundle: Bundle) -> None:
        assert store.list_names() == []
        assert store.read_selection() == Selection()
        assert load_bundle(bundle.path) == bundle

    assert install(store, bundles("one"), verify) is not None


def test_installed_again(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """The current bundle is neither copied nor verified again, nor is the shipped one."""
    install(store, bundles("one"))
    mark_good(store)
    before = store.read_selection()

    def refuse(bundle: Bundle) -> None:
        raise AssertionError

    assert install(store, bundles("one"), refuse) is None
    assert store.read_selection() == before
    fresh = BundleStore(store.folder.parent / "fresh")
    assert install(fresh, DEFAULT_BUNDLE, refuse) is None


def test_failed_bundle_installed_again(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """Its trial starts again; nothing is copied."""
    name = install(store, bundles("one"))
    assert name is not None
    store.write_selection(Selection(current=name, on_trial=True, failed_starts=2))
    assert install(store, bundles("one")) == name
    assert store.read_selection() == Selection(current=name, on_trial=True)


@pytest.mark.parametrize("error", [EngineError, BundleError, RuntimeError, KeyboardInterrupt])
def test_verification_that_fails(
    store: BundleStore, bundles: Callable[[str], Path], error: type[BaseException]
) -> None:
    """The selection stays, no copy is left, and the error names the source."""
    name = install(store, bundles("one"))
    mark_good(store)
    before = store.read_selection()

    def fail(bundle: Bundle) -> None:
        raise error(f"{bundle.path}/face.onnx: does not fit")

    with pytest.raises(error) as caught:
        install(store, bundles("two"), fail)
    assert store.read_selection() == before
    assert list_all(store) == {name, "selection.json"}
    if error in (EngineError, BundleError):
        assert str(caught.value) == f"{bundles('two')}/face.onnx: does not fit"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "rename", "replace"])
def test_write_error_leaves_the_old_file(
    store: BundleStore,
    bundles: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    """The selection stays, no copy is left, and the next installation succeeds."""
    first = install(store, bundles("one"))
    mark_good(store)
    before = store.read_selection()
    bundles("two")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(BundleError, match=str(store.folder)):
            install(store, bundles("two"))
    assert store.read_selection() == before
    assert not any(name.startswith(".") for name in list_all(store))
    second = install(store, bundles("two"))
    assert list_all(store) == {first, second, "selection.json"}


def test_full_disk_is_found_before_copying(
    store: BundleStore, bundles: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the free and the required space."""
    disk = namedtuple("disk", "f_bavail f_frsize")(1000, 4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    with pytest.raises(BundleError, match=r"4 MB.* 4 MB"):
        install(store, bundles("one"))
    assert list_all(store) == set()


def test_damaged_source(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """A damaged file is refused by the name of the source."""
    folder = bundles("one")
    network = folder / "face.onnx"
    network.write_bytes(b"?" + network.read_bytes()[1:])
    with pytest.raises(BundleError, match=f"^{network}: "):
        install(store, folder)
    assert list_all(store) == set()


def test_source_that_changes_while_it_is_read(
    store: BundleStore, bundles: Callable[[str], Path]
) -> None:
    """Another valid bundle is refused: it is not the indexed one."""
    one = bundles("one")
    with open_bundle_source(one) as handle, open_archive(handle, one) as archive:
        other = bundles("two")
        for name in (MANIFEST, "face.onnx"):
            assert (other / name).stat().st_size == (one / name).stat().st_size
            (one / name).write_bytes((other / name).read_bytes())
        with pytest.raises(BundleError, match=str(one)):
            store.install(archive, None, lambda _: None, null_reporter)
    assert list_all(store) == set()


def test_keeps_what_may_be_in_use(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """The current, the previous, and the one before, which a process may still use."""
    names = []
    for title in ("one", "two", "three", "four", "five"):
        names.append(install(store, bundles(title)))
        mark_good(store)
    assert store.list_names() == sorted(name for name in names[-3:] if name)


def test_leftovers_of_a_power_cut(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """They are removed, also one of the bundle being installed."""
    name = install(store, bundles("one"))
    assert name is not None
    other = load_bundle(bundles("two")).sha256[:16]
    for left in (f".incoming-{other}", f".incoming-{'0' * 16}", f".removed-{'1' * 16}"):
        shutil.copytree(store.folder / name, store.folder / left)
    assert install(store, bundles("two")) == other
    assert list_all(store) == {name, other, "selection.json"}


def test_repairs_a_damaged_bundle(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """A damaged current bundle is installed again; the rollback target stays."""
    before = install(store, bundles("one"))
    mark_good(store)
    name = install(store, bundles("two"))
    assert name is not None
    mark_good(store)
    (store.folder / name / "face.onnx").unlink()
    assert install(store, bundles("two")) == name
    assert store.load(name, None).manifest.name == "two"
    assert store.read_selection() == Selection(current=name, previous=before or "", on_trial=True)


def test_another_bundle_under_that_name(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """A valid bundle in the folder of another is refused."""
    name = install(store, bundles("one"))
    assert name is not None
    shutil.rmtree(store.folder / name)
    shutil.copytree(bundles("two"), store.folder / name)
    with pytest.raises(BundleError, match=str(store.folder / name)):
        store.load(name, None)


def test_damaged_selection(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """An installation resets it with one report; a rollback is refused."""
    install(store, bundles("one"))
    (store.folder / "selection.json").write_text("?")
    with pytest.raises(BundleError, match=r"selection\.json"):
        store.roll_back(None, lambda _: None, null_reporter)
    reports: list[str] = []
    name = install(store, bundles("two"), report=reports.append)
    assert store.read_selection() == Selection(current=name or "", on_trial=True)
    assert ["selection.json" in report for report in reports] == [True]


def test_rolls_back_and_forth(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """The target is verified each time; without one the rollback is refused."""
    with pytest.raises(BundleError, match=str(store.folder)):
        store.roll_back(None, lambda _: None, null_reporter)
    name = install(store, bundles("one"))
    verified: list[str] = []

    def verify(bundle: Bundle) -> None:
        verified.append(bundle.manifest.name)

    assert store.roll_back(None, verify, null_reporter) == SHIPPED
    assert store.read_selection() == Selection(current=SHIPPED, previous=name or "")
    assert store.roll_back(None, verify, null_reporter) == name
    assert store.read_selection() == Selection(current=name or "", on_trial=True)
    assert verified == ["default", "one"]


@pytest.mark.parametrize("damage", [True, False])
def test_rolls_back_only_to_a_verified_bundle(
    store: BundleStore, bundles: Callable[[str], Path], damage: bool
) -> None:
    """A bundle that is damaged or fails on this machine is not selected."""
    name = install(store, bundles("one"))
    mark_good(store)
    install(store, bundles("two"))
    before = store.read_selection()

    def fail(bundle: Bundle) -> None:
        raise EngineError("cannot be run")

    if damage:
        (store.folder / str(name) / "face.onnx").unlink()
    with pytest.raises(BundleError if damage else EngineError):
        store.roll_back(None, fail, null_reporter)
    assert store.read_selection() == before


def test_start_that_rolls_back_meanwhile(
    store: BundleStore, bundles: Callable[[str], Path]
) -> None:
    """A rollback during that of a start is one step, not two."""
    name = install(store, bundles("one"))
    mark_good(store)
    install(store, bundles("two"))

    def start(bundle: Bundle) -> None:
        selection = store.read_selection()
        store.write_selection(selection.count_start().count_start().abandon_failed())

    assert store.roll_back(None, start, null_reporter) == name
    assert store.read_selection().current == name


def test_one_at_a_time(store: BundleStore, bundles: Callable[[str], Path]) -> None:
    """The second installation waits with reports and fails after an hour."""
    naps: list[float] = []
    patient = BundleStore(store.folder.parent, sleep=naps.append)
    reports: list[str] = []

    def second(bundle: Bundle) -> None:
        install(patient, bundles("two"), report=reports.append)

    with pytest.raises(BundleError, match=str(store.folder)):
        install(store, bundles("one"), second)
    assert sum(naps) == 3600
    assert len(reports) == 720
    assert list_all(store) == set()


def test_locked_selection(
    store: BundleStore, bundles: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suspended process holds the lock: nothing is selected."""
    install(store, bundles("one"))
    before = store.read_selection()
    monkeypatch.setattr(bundle_store, "SELECTION_WAIT_S", 1.0)
    with (store.folder / "selection.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match=r"selection\.lock"):
            install(store, bundles("two"))
    assert store.read_selection() == before


def test_signed_bundles(store: BundleStore, bundles: Callable[[str], Path], tmp_path: Path) -> None:
    """With a key only signed bundles are installed; a signed one replaces the unsigned one of its
    name."""
    pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
    from ..signing import write_keys

    keys = write_keys(tmp_path / "keys")
    key = keys.public_key
    folder = bundles("one")
    with pytest.raises(BundleError, match=f"^{folder}: .*{SIGNATURE}"):
        install(store, folder, key=key)
    name = install(store, folder)
    assert name is not None
    with pytest.raises(BundleError, match=SIGNATURE):
        store.load(name, key)
    write_keys(tmp_path / "others").sign(folder)
    with pytest.raises(BundleError, match=SIGNATURE):
        install(store, folder, key=key)
    keys.sign(folder)
    assert install(store, folder, key=key) == name
    assert store.load(name, key).manifest.name == "one"
    assert install(store, folder, key=key) is None
    assert store.load(SHIPPED, key).path == DEFAULT_BUNDLE
