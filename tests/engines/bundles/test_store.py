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


class Device:
    """A store, and a bundle of any name to install in it."""

    def __init__(self, folder: Path) -> None:
        self.store = BundleStore(folder / "state", sleep=lambda _: None)
        self._folder = folder

    def make(self, name: str) -> Path:
        """Return the folder of a bundle, outside the store."""
        folder = self._folder / name
        return folder if folder.exists() else write_bundle(folder, name)

    def install(
        self,
        name: str,
        verify: Callable[[Bundle], None] = lambda _: None,
        key: PublicKey | None = None,
        report: Callable[[str], None] = null_reporter,
        store: BundleStore | None = None,
    ) -> str:
        """Return the name in the store; "" for the current bundle."""
        folder = DEFAULT_BUNDLE if name == "shipped" else self.make(name)
        with open_bundle_source(folder) as handle, open_archive(handle, folder) as archive:
            is_new = (store or self.store).install(archive, key, verify, report)
            return archive.sha256[:16] if is_new else ""

    def mark_good(self) -> None:
        self.store.write_selection(self.selection.end_trial())

    @property
    def selection(self) -> Selection:
        return self.store.read_selection()

    @property
    def content(self) -> set[str]:
        """Names in the store's folder, without the locks."""
        names = {path.name for path in self.store.folder.iterdir()}
        return names - {"install.lock", "selection.lock"}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_installs(device: Device) -> None:
    """The copy is complete, read-only, and selected on trial."""
    folder = device.make("one")
    verified: list[Bundle] = []
    name = device.install("one", verified.append)
    assert name == load_bundle(folder).sha256[:16]
    assert device.selection == Selection(current=name, on_trial=True)
    bundle = device.store.load(name, None)
    assert bundle.path == device.store.folder / name
    assert bundle.manifest == load_bundle(folder).manifest == verified[0].manifest
    assert {path.stat().st_mode & 0o222 for path in bundle.path.iterdir()} == {0}
    assert device.content == {name, "selection.json"}


def test_verified_before_it_is_renamed(device: Device) -> None:
    """Until then it is neither listed nor selected."""

    def verify(bundle: Bundle) -> None:
        assert device.store.list_names() == []
        assert device.selection == Selection()
        assert load_bundle(bundle.path) == bundle

    assert device.install("one", verify)


def test_installed_again(device: Device) -> None:
    """The current bundle is neither copied nor verified again, nor is the shipped one."""
    device.install("one")
    device.mark_good()
    before = device.selection

    def refuse(bundle: Bundle) -> None:
        raise AssertionError

    assert device.install("one", refuse) == ""
    assert device.selection == before
    fresh = BundleStore(device.store.folder.parent / "fresh")
    assert device.install("shipped", refuse, store=fresh) == ""


def test_failed_bundle_installed_again(device: Device) -> None:
    """Its trial starts again; nothing is copied."""
    name = device.install("one")
    device.store.write_selection(Selection(current=name, on_trial=True, failed_starts=2))
    assert device.install("one") == name
    assert device.selection == Selection(current=name, on_trial=True)


@pytest.mark.parametrize("error", [EngineError, BundleError, RuntimeError, KeyboardInterrupt])
def test_verification_that_fails(device: Device, error: type[BaseException]) -> None:
    """The selection stays, no copy is left, and the error names the source."""
    name = device.install("one")
    device.mark_good()
    before = device.selection

    def fail(bundle: Bundle) -> None:
        raise error(f"{bundle.path}/face.onnx: does not fit")

    with pytest.raises(error) as caught:
        device.install("two", fail)
    assert device.selection == before
    assert device.content == {name, "selection.json"}
    if error in (EngineError, BundleError):
        assert str(caught.value) == f"{device.make('two')}/face.onnx: does not fit"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "rename", "replace"])
def test_write_error_leaves_the_old_file(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    """The selection stays, no copy is left, and the next installation succeeds."""
    first = device.install("one")
    device.mark_good()
    before = device.selection
    device.make("two")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(BundleError, match=str(device.store.folder)):
            device.install("two")
    assert device.selection == before
    assert not any(name.startswith(".") for name in device.content)
    second = device.install("two")
    assert device.content == {first, second, "selection.json"}


def test_full_disk_is_found_before_copying(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the free and the required space."""
    disk = namedtuple("disk", "f_bavail f_frsize")(1000, 4096)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    with pytest.raises(BundleError, match=r"4 MB.* 4 MB"):
        device.install("one")
    assert device.content == set()


def test_damaged_source(device: Device) -> None:
    """A damaged file is refused by the name of the source."""
    network = device.make("one") / "face.onnx"
    network.write_bytes(b"?" + network.read_bytes()[1:])
    with pytest.raises(BundleError, match=f"^{network}: "):
        device.install("one")
    assert device.content == set()


def test_source_that_changes_while_it_is_read(device: Device) -> None:
    """Another valid bundle is refused: it is not the indexed one."""
    one = device.make("one")
    with open_bundle_source(one) as handle, open_archive(handle, one) as archive:
        other = device.make("two")
        for name in (MANIFEST, "face.onnx"):
            assert (other / name).stat().st_size == (one / name).stat().st_size
            (one / name).write_bytes((other / name).read_bytes())
        with pytest.raises(BundleError, match=str(one)):
            device.store.install(archive, None, lambda _: None, null_reporter)
    assert device.content == set()


def test_keeps_what_may_be_in_use(device: Device) -> None:
    """The current, the previous, and the one before, which a process may still use."""
    names = []
    for title in ("one", "two", "three", "four", "five"):
        names.append(device.install(title))
        device.mark_good()
    assert device.store.list_names() == sorted(names[-3:])


def test_leftovers_of_a_power_cut(device: Device) -> None:
    """They are removed, also one of the bundle being installed."""
    name = device.install("one")
    other = load_bundle(device.make("two")).sha256[:16]
    for left in (f".incoming-{other}", f".incoming-{'0' * 16}", f".removed-{'1' * 16}"):
        shutil.copytree(device.store.folder / name, device.store.folder / left)
    assert device.install("two") == other
    assert device.content == {name, other, "selection.json"}


def test_repairs_a_damaged_bundle(device: Device) -> None:
    """A damaged current bundle is installed again; the rollback target stays."""
    before = device.install("one")
    device.mark_good()
    name = device.install("two")
    device.mark_good()
    (device.store.folder / name / "face.onnx").unlink()
    assert device.install("two") == name
    assert device.store.load(name, None).manifest.name == "two"
    assert device.selection == Selection(current=name, previous=before, on_trial=True)


def test_another_bundle_under_that_name(device: Device) -> None:
    """A valid bundle in the folder of another is refused."""
    name = device.install("one")
    shutil.rmtree(device.store.folder / name)
    shutil.copytree(device.make("two"), device.store.folder / name)
    with pytest.raises(BundleError, match=str(device.store.folder / name)):
        device.store.load(name, None)


def test_damaged_selection(device: Device) -> None:
    """An installation resets it with one report; a rollback is refused."""
    device.install("one")
    (device.store.folder / "selection.json").write_text("?")
    with pytest.raises(BundleError, match=r"selection\.json"):
        device.store.roll_back(None, lambda _: None, null_reporter)
    reports: list[str] = []
    name = device.install("two", report=reports.append)
    assert device.selection == Selection(current=name, on_trial=True)
    assert ["selection.json" in report for report in reports] == [True]


def test_rolls_back_and_forth(device: Device) -> None:
    """The target is verified each time; without one the rollback is refused."""
    with pytest.raises(BundleError, match=str(device.store.folder)):
        device.store.roll_back(None, lambda _: None, null_reporter)
    name = device.install("one")
    verified: list[str] = []

    def verify(bundle: Bundle) -> None:
        verified.append(bundle.manifest.name)

    assert device.store.roll_back(None, verify, null_reporter) == SHIPPED
    assert device.selection == Selection(current=SHIPPED, previous=name)
    assert device.store.roll_back(None, verify, null_reporter) == name
    assert device.selection == Selection(current=name, on_trial=True)
    assert verified == ["default", "one"]


@pytest.mark.parametrize("damage", [True, False])
def test_rolls_back_only_to_a_verified_bundle(device: Device, damage: bool) -> None:
    """A bundle that is damaged or fails on this machine is not selected."""
    name = device.install("one")
    device.mark_good()
    device.install("two")
    before = device.selection

    def fail(bundle: Bundle) -> None:
        raise EngineError("cannot be run")

    if damage:
        (device.store.folder / name / "face.onnx").unlink()
    with pytest.raises(BundleError if damage else EngineError):
        device.store.roll_back(None, fail, null_reporter)
    assert device.selection == before


def test_start_that_rolls_back_meanwhile(device: Device) -> None:
    """A rollback during that of a start is one step, not two."""
    name = device.install("one")
    device.mark_good()
    device.install("two")

    def start(bundle: Bundle) -> None:
        selection = device.selection
        device.store.write_selection(selection.count_start().count_start().abandon_failed())

    assert device.store.roll_back(None, start, null_reporter) == name
    assert device.selection.current == name


def test_one_at_a_time(device: Device) -> None:
    """The second installation waits with reports and fails after an hour."""
    naps: list[float] = []
    patient = BundleStore(device.store.folder.parent, sleep=naps.append)
    reports: list[str] = []

    def second(bundle: Bundle) -> None:
        device.install("two", report=reports.append, store=patient)

    with pytest.raises(BundleError, match=str(device.store.folder)):
        device.install("one", second)
    assert sum(naps) == 3600
    assert len(reports) == 720
    assert device.content == set()


def test_locked_selection(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended process holds the lock: nothing is selected."""
    device.install("one")
    before = device.selection
    monkeypatch.setattr(bundle_store, "SELECTION_WAIT_S", 1.0)
    with (device.store.folder / "selection.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match=r"selection\.lock"):
            device.install("two")
    assert device.selection == before


def test_signed_bundles(device: Device, tmp_path: Path) -> None:
    """With a key only signed bundles are installed; a signed one replaces the unsigned one of its
    name."""
    pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
    from ..signing import write_keys

    keys = write_keys(tmp_path / "keys")
    key = keys.public_key
    folder = device.make("one")
    with pytest.raises(BundleError, match=f"^{folder}: .*{SIGNATURE}"):
        device.install("one", key=key)
    name = device.install("one")
    with pytest.raises(BundleError, match=SIGNATURE):
        device.store.load(name, key)
    write_keys(tmp_path / "others").sign(folder)
    with pytest.raises(BundleError, match=SIGNATURE):
        device.install("one", key=key)
    keys.sign(folder)
    assert device.install("one", key=key) == name
    assert device.store.load(name, key).manifest.name == "one"
    assert device.install("one", key=key) == ""
    assert device.store.load(SHIPPED, key).path == DEFAULT_BUNDLE
