"""The engine cache: loading, storing, pruning, and the build lock."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError, null_reporter
from emotion_edge.engines.tensorrt.cache import EngineCache, find_cache_folder, hash_key

PARTS = {"onnx": "a", "tensorrt": "10.3.0"}
KEY = hash_key(PARTS)
PREFIX = "tiny-face-fp16"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache" / "engines")


def test_folder_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd's, else the program's variable, else the user's."""
    monkeypatch.setenv("HOME", "/home/somebody")
    user = {"XDG_CACHE_HOME": "/x"}
    ours = {"EMOTION_EDGE_CACHE": "/y", **user}
    assert find_cache_folder({}) == Path("/home/somebody/.cache/emotion-edge/engines")
    assert find_cache_folder(user) == Path("/x/emotion-edge/engines")
    assert find_cache_folder(ours) == Path("/y")
    assert find_cache_folder({"CACHE_DIRECTORY": "/a:/b", **ours}) == Path("/a/engines")


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable to set."""

    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(EngineError, match="EMOTION_EDGE_CACHE"):
        find_cache_folder({})


def test_key_depends_on_every_part() -> None:
    """The order of the parts does not matter."""
    assert hash_key(dict(reversed(PARTS.items()))) == KEY
    assert len({KEY, *(hash_key({**PARTS, name: "other"}) for name in PARTS)}) == 3


def test_stores_and_loads(cache: EngineCache) -> None:
    """The same bytes, with their key parts beside them; the folder is its owner's."""
    assert cache.load(PREFIX, KEY) is None
    file = cache.store(PREFIX, KEY, PARTS, b"engine")
    assert file is not None
    assert file == cache.folder / f"tiny-face-fp16-{KEY[:16]}.engine"
    assert cache.load(PREFIX, KEY) == b"engine"
    assert json.loads(file.with_suffix(".json").read_text())["built_of"] == PARTS
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".engine", ".json"]
    assert cache.folder.stat().st_mode & 0o077 == 0


def test_name_of_a_bundle_cannot_leave_the_folder(cache: EngineCache) -> None:
    """A path in the name of a bundle becomes a file name."""
    file = cache.store("../../etc/ä b-face-fp16", KEY, PARTS, b"engine")
    assert file is not None
    assert file.parent == cache.folder
    assert cache.load("../../etc/ä b-face-fp16", KEY) == b"engine"


@pytest.mark.parametrize(
    ("damage", "num_warnings"),
    [
        (lambda engine, entry: engine.write_bytes(b"engin"), 1),
        (lambda engine, entry: engine.write_bytes(b"Engine"), 1),
        (lambda engine, entry: engine.write_bytes(b""), 1),
        (lambda engine, entry: entry.write_text("{"), 1),
        (lambda engine, entry: entry.write_text("{}"), 1),
        (lambda engine, entry: entry.write_bytes(b"\xff\xfe"), 1),
        (lambda engine, entry: entry.write_text(entry.read_text().replace(KEY, "f" * 64)), 1),
        (lambda engine, entry: (engine.unlink(), engine.mkdir()), 1),
        (lambda engine, entry: engine.unlink(), 0),
        (lambda engine, entry: entry.unlink(), 0),
    ],
)
def test_damaged_engine(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, damage: object, num_warnings: int
) -> None:
    """It is not loaded and a warning names it; a missing one is not logged."""
    file = cache.store(PREFIX, KEY, PARTS, b"engine")
    assert file is not None
    damage(file, file.with_suffix(".json"))  # type: ignore[operator]
    assert cache.load(PREFIX, KEY) is None
    assert [str(file) in message for message in caplog.messages] == [True] * num_warnings


def test_keeps_one_previous(cache: EngineCache) -> None:
    """Of the same network and precision; other engines stay."""
    names = []
    for number, prefix in enumerate([PREFIX] * 4 + ["tiny-face-int8", "tiny-face-fp16-x"]):
        parts = {"onnx": str(number)}
        file = cache.store(prefix, hash_key(parts), parts, b"engine")
        assert file is not None
        os.utime(file, (number, number))
        names.append(file.name)
    left = sorted(path.name for path in cache.folder.glob("*.engine"))
    assert left == sorted(names[2:])
    assert len(list(cache.folder.glob("*.json"))) == len(left)


def test_read_only_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is stored, locked or raised; the warning names the variable to set."""
    (tmp_path / "file").touch()
    cache = EngineCache(tmp_path / "file" / "engines")
    with cache.lock(null_reporter):
        assert cache.store(PREFIX, KEY, PARTS, b"engine") is None
    assert "EMOTION_EDGE_CACHE" in caplog.text
    cache.store_timing("timing", b"data")
    assert cache.load_timing("timing") == b""


def test_full_disk(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The old engine stays, no draft is left, and one warning has the reason."""
    cache.store(PREFIX, KEY, PARTS, b"engine")

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert cache.store(PREFIX, KEY, PARTS, b"another") is None
    assert ["No space left on device" in message for message in caplog.messages] == [True]
    assert cache.load(PREFIX, KEY) == b"engine"
    assert not list(cache.folder.glob("*.part"))


def test_timing_cache(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    """The same bytes are loaded; damaged ones are not."""
    cache.store_timing("timing", b"measured")
    assert cache.load_timing("timing") == b"measured"
    file = cache.folder / "timing"
    for data in (file.read_bytes()[:-1], file.read_bytes()[:10], b"\0" * 100):
        file.write_bytes(data)
        caplog.clear()
        assert cache.load_timing("timing") == b""
        assert [str(file) in message for message in caplog.messages] == [True]


def test_second_builder_waits(cache: EngineCache) -> None:
    """It waits for the first and reports every five seconds."""
    reports: list[str] = []
    first = cache.lock(null_reporter)
    first.__enter__()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 12:
            first.__exit__(None, None, None)

    with cache.lock(reports.append, sleep=nap):
        assert sum(naps) == 6
    assert len(reports) == 2


def test_waiting_ends(cache: EngineCache) -> None:
    """The error names the folder and the minutes; the lock is free afterwards."""
    with (
        cache.lock(null_reporter),
        pytest.raises(EngineError, match=r"engines: .* 2 minutes"),
        cache.lock(null_reporter, wait_s=120, sleep=lambda _: None),
    ):
        pass
    reports: list[str] = []
    with cache.lock(reports.append):
        assert reports == []


def test_error_releases_the_lock(cache: EngineCache) -> None:
    """An exception inside releases it."""
    with pytest.raises(ValueError, match="inside"), cache.lock(null_reporter):
        raise ValueError("inside")
    with cache.lock(null_reporter, wait_s=0, sleep=lambda _: None):
        pass
