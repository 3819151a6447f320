"""The bundle of a start: selection, counted starts, rollback, and the log."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from pathlib import Path

import pytest

from emotion_edge.engines.bundles import selection as bundle_selection
from emotion_edge.engines.bundles import startup
from emotion_edge.engines.bundles import store as bundle_store
from emotion_edge.engines.bundles.archive import open_archive, open_bundle_source
from emotion_edge.engines.bundles.manifest import (
    DEFAULT_BUNDLE,
    MANIFEST,
    SIGNATURE,
    BundleError,
    load_bundle,
)
from emotion_edge.engines.bundles.selection import SHIPPED, Selection
from emotion_edge.engines.bundles.startup import BundleChoice, choose_bundle
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.engines.config_file import ConfigError

from ..power_cuts import install, write_bundle


class Device:
    """A state folder with two bundles: "two" is on trial, "one" is the rollback target."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.store = BundleStore(self.state)
        self.made = {name: write_bundle(folder / name, name) for name in ("one", "two")}
        self.names = {n: load_bundle(path).sha256[:16] for n, path in self.made.items()}
        install(self.state, self.made["one"])
        self.start().mark_good()
        install(self.state, self.made["two"])

    def choose(
        self, configured: str = "", key: str = "", *, starting: bool = False
    ) -> BundleChoice:
        environment = {"EMOTION_EDGE_STATE": str(self.state)}
        return choose_bundle(configured, key, starting=starting, environment=environment)

    def start(self) -> BundleChoice:
        return self.choose(starting=True)

    def damage(self, name: str) -> None:
        file = self.state / "bundles" / self.names[name] / "face.onnx"
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data[:-1] + b"?")

    @property
    def selection(self) -> Selection:
        return self.store.read_selection()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def log_messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Messages at `level` or above since the last call."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= level]
    caplog.clear()
    return lines


def title(choice: BundleChoice) -> str:
    return choice.bundle.manifest.name


def test_nothing_is_installed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The shipped bundle is used; nothing is logged or written."""
    environment = {"EMOTION_EDGE_STATE": str(tmp_path / "state")}
    choice = choose_bundle(starting=True, environment=environment)
    choice.mark_good()
    assert choice.bundle.path == DEFAULT_BUNDLE
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []


def test_new_bundle_that_starts(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and marked good once; later starts write nothing."""
    choice = device.start()
    assert title(choice) == "two"
    assert (device.selection.on_trial, device.selection.failed_starts) == (True, 1)
    choice.mark_good()
    names = device.names
    assert device.selection == Selection(current=names["two"], previous=names["one"])
    [message] = log_messages(caplog, logging.INFO)
    assert names["two"] in message
    before = (device.state / "bundles" / "selection.json").stat()
    choice.mark_good()
    device.start().mark_good()
    after = (device.state / "bundles" / "selection.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert log_messages(caplog, logging.INFO) == []


def test_new_bundle_that_fails(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """Two failed starts log nothing; the third rolls back with one error, the fourth with none."""
    names = device.names
    assert [title(device.start()) for _ in range(2)] == ["two", "two"]
    assert log_messages(caplog) == []
    assert title(device.start()) == "one"
    [message] = log_messages(caplog, logging.ERROR)
    assert names["two"] in message
    assert names["one"] in message
    assert title(device.start()) == "one"
    assert log_messages(caplog) == []
    assert device.selection == Selection(current=names["one"], failed=names["two"])


def test_discounted_starts(device: Device) -> None:
    """A discounted start leaves the number of failures as it was, however often."""
    for _ in range(10):
        choice = device.start()
        assert (title(choice), device.selection.failed_starts) == ("two", 1)
        choice.discount()
        choice.discount()
        assert (device.selection.on_trial, device.selection.failed_starts) == (True, 0)
    device.start()
    choice = device.start()
    assert device.selection.failed_starts == 2
    choice.discount()
    choice.discount()
    assert device.selection.failed_starts == 1
    device.start()
    assert title(device.start()) == "one"


def test_discounted_then_marked_good(device: Device) -> None:
    """A run that waited for its camera can still be marked good, once."""
    choice = device.start()
    choice.discount()
    choice.mark_good()
    marked = device.selection
    assert marked == Selection(current=device.names["two"], previous=device.names["one"])
    choice.discount()
    assert device.selection == marked


def test_reading_the_choice_counts_no_start(device: Device) -> None:
    """A command sees the bundle of the next start without counting one."""
    before = device.selection
    for _ in range(5):
        choice = device.choose()
        choice.mark_good()
        choice.discount()
        assert title(choice) == "two"
    assert device.selection == before
    device.start()
    device.start()
    before = device.selection
    assert title(device.choose()) == "one"
    assert device.selection == before


def test_configured_bundle(device: Device) -> None:
    """It has precedence over the installed ones and is not on trial."""
    choice = device.choose(str(device.made["one"]), starting=True)
    assert choice.bundle.path == device.made["one"]
    choice.mark_good()
    assert (device.selection.on_trial, device.selection.failed_starts) == (True, 0)
    with pytest.raises(BundleError, match="nowhere"):
        device.choose("nowhere")


def test_damaged_bundle(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """It is skipped for the previous one, else the shipped one; the trial continues."""
    device.damage("two")
    choice = device.start()
    assert title(choice) == "one"
    [message] = log_messages(caplog, logging.ERROR)
    assert device.names["two"] in message
    choice.mark_good()
    assert device.selection.on_trial
    device.damage("one")
    assert device.start().bundle.path == DEFAULT_BUNDLE
    assert len(log_messages(caplog, logging.ERROR)) == 2
    shutil.rmtree(device.state / "bundles" / device.names["two"])
    assert device.choose().bundle.path == DEFAULT_BUNDLE


def test_damaged_shipped_bundle(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any valid bundle is used; without one, the first error is raised."""
    for module in (startup, bundle_store):
        monkeypatch.setattr(module, "DEFAULT_BUNDLE", tmp_path / "lost")
    device.store.write_selection(Selection(current=SHIPPED, previous=device.names["one"]))
    assert title(device.start()) == "one"
    device.store.write_selection(Selection())
    with pytest.raises(BundleError, match=str(tmp_path / "lost")):
        device.start()


def test_each_file_is_read_once(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start verifies without reading a file twice."""
    read: list[str] = []
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    device.start()
    assert sorted(read) == [MANIFEST, "face.onnx"]


@pytest.mark.parametrize("text", ["", "{", '{"format": 9}'])
def test_damaged_selection(device: Device, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """The shipped bundle is used with one warning a start; the file stays for inspection."""
    file = device.state / "bundles" / "selection.json"
    file.write_text(text)
    device.start().mark_good()
    assert device.start().bundle.path == DEFAULT_BUNDLE
    messages = log_messages(caplog)
    assert len(messages) == 2
    assert all(str(file) in message for message in messages)
    assert file.read_text() == text


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_state_folder_that_cannot_be_written(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """Each change that cannot be stored is one warning; selection and rollback still work."""
    real = os.open

    def refuse(path: object, flags: int, *rest: object, **options: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest, **options)  # type: ignore[arg-type]

    before = device.selection
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        choice = device.start()
        assert title(choice) == "two"
        choice.mark_good()
        assert [os.strerror(number) in message for message in log_messages(caplog)] == [True, True]
    assert device.selection == before
    device.start()
    device.start()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert title(device.start()) == "one"
    assert device.selection.current == device.names["two"]


def test_unreadable_selection(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """The shipped bundle is used with one warning."""
    file = device.state / "bundles" / "selection.json"
    file.unlink()
    file.mkdir()
    assert device.choose().bundle.path == DEFAULT_BUNDLE
    assert [str(file) in message for message in log_messages(caplog)] == [True]


def test_lock_that_is_held(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A suspended process does not delay the start."""
    monkeypatch.setattr(bundle_store, "SELECTION_WAIT_S", 0.0)
    with (device.state / "bundles" / "selection.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert title(device.start()) == "two"
    assert ["selection.lock" in message for message in log_messages(caplog)] == [True]


def test_selection_changes_meanwhile(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change between reading and counting, or between start and mark good, is kept."""
    lock = device.store.lock_selection

    def step_back_first(store: BundleStore) -> object:
        device.store.write_selection(device.selection.step_back())
        return lock()

    with monkeypatch.context() as patch:
        patch.setattr(BundleStore, "lock_selection", step_back_first)
        choice = device.start()
    stepped = device.selection
    assert (stepped.current, stepped.failed_starts) == (device.names["one"], 0)
    choice.mark_good()
    choice.discount()
    assert device.selection == stepped


def test_installing_does_not_delay_a_start(device: Device, tmp_path: Path) -> None:
    """Engines are built for minutes without the selection's lock."""
    three = write_bundle(tmp_path / "three", "three")
    titles: list[str] = []

    def verify(_: object) -> None:
        titles.append(title(device.start()))

    with open_bundle_source(three) as handle, open_archive(handle, three) as archive:
        device.store.install(archive, None, verify, lambda _: None)
    assert titles == ["two"]
    assert title(device.start()) == "three"


def test_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a state folder the shipped bundle is used."""

    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(bundle_selection, "SYSTEM_STATE", tmp_path / "none")
    monkeypatch.setattr(Path, "home", fail)
    assert choose_bundle(environment={}).bundle.path == DEFAULT_BUNDLE


def test_signatures(device: Device, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """With a key, unsigned bundles are skipped, except the shipped one. An invalid key ends the
    start."""
    pytest.importorskip("cryptography", reason="cryptography is in the signed extra")
    from ..signing import write_keys

    keys = write_keys(tmp_path / "keys")
    key = str(keys.public)
    assert device.choose(key=key).bundle.path == DEFAULT_BUNDLE
    errors = log_messages(caplog, logging.ERROR)
    assert [SIGNATURE in message for message in errors] == [True, True]
    keys.sign(device.state / "bundles" / device.names["one"])
    assert title(device.choose(key=key)) == "one"
    with pytest.raises(BundleError, match=SIGNATURE):
        device.choose(str(device.made["two"]), key)
    keys.sign(device.made["two"])
    assert title(device.choose(str(device.made["two"]), key)) == "two"
    assert device.choose(str(DEFAULT_BUNDLE), key).bundle.path == DEFAULT_BUNDLE
    with pytest.raises(ConfigError, match=str(tmp_path / "none")):
        device.choose(key=str(tmp_path / "none"))
