"""The cache: correct or rebuilt, never fatal."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.training.data.cache import Arrays, FeatureCache
from emotion_edge.training.errors import DatasetError


class Builder:
    """Builds arrays and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {
            "pixels": np.arange(12, dtype=np.uint8).reshape(3, 4),
            "names": np.array(["a", "bé"]),
            "none": np.array([], np.str_),
            "num": np.array(7),
        }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "a.wav"
    file.write_bytes(b"1234")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(folder: Path, source: Path, build: Builder, **spec: float | str) -> Arrays:
    return FeatureCache(folder).load("sounds", [source], spec or {"rate": 16_000}, build)


def test_second_time_from_the_disk(folder: Path, source: Path) -> None:
    """Equal arrays of equal type, also in another run; hits and misses are counted."""
    build = Builder()
    cache = FeatureCache(folder)
    first = cache.load("sounds", [source], {"rate": 1}, build)
    assert (cache.hits, cache.built) == (0, 1)
    again = FeatureCache(folder)
    second = again.load("sounds", [source], {"rate": 1}, build)
    assert (again.hits, again.built) == (1, 0)
    assert build.calls == 1
    assert list(first) == list(second)
    for name, array in first.items():
        assert second[name].dtype == array.dtype
        np.testing.assert_array_equal(second[name], array)
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".npz"]


def test_changes_are_noticed(folder: Path, source: Path) -> None:
    """Another spec, kind, size, time or path is a miss; the same again is a hit."""
    build = Builder()
    load(folder, source, build)
    load(folder, source, build, rate=8_000)
    load(folder, source, build, rate=16_000, more="x")
    assert build.calls == 3
    FeatureCache(folder).load("films", [source], {"rate": 16_000}, build)
    assert build.calls == 4
    state = source.stat()
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    load(folder, source, build)
    assert build.calls == 5
    source.write_bytes(b"12345")
    os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))
    load(folder, source, build)
    assert build.calls == 6
    elsewhere = source.parent / "elsewhere" / "a.wav"
    elsewhere.parent.mkdir()
    shutil.copy2(source, elsewhere)
    load(folder, elsewhere, build)
    assert build.calls == 7
    for _ in range(2):
        load(folder, source, build)
        load(folder, elsewhere, build)
    assert build.calls == 7
    for content in (b"1", b"1", b"22"):
        elsewhere.write_bytes(content)
        os.utime(elsewhere, ns=(state.st_atime_ns, state.st_mtime_ns))
        FeatureCache(folder).load("sounds", [source, elsewhere], {"rate": 16_000}, build)
    assert build.calls == 9


def test_folder_may_be_deleted(folder: Path, source: Path) -> None:
    """Even between two files of a run."""
    build, cache = Builder(), FeatureCache(folder)
    for _ in range(2):
        cache.load("sounds", [source], {}, build)
        shutil.rmtree(folder)
    assert build.calls == 2
    assert cache.write_error == ""


@pytest.mark.parametrize("damage", ["empty", "short", "flip", "end", "junk", "pickle", "moved"])
def test_damaged_file_is_rebuilt(
    folder: Path, source: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names the file, and it is replaced by a good one."""
    build = Builder()
    load(folder, source, build)
    (file,) = folder.rglob("*.npz")
    data = bytearray(file.read_bytes())
    if damage == "empty":
        data = bytearray()
    elif damage == "short":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "end":
        data += b"x"
    elif damage == "junk":
        data[:] = b"junk" * 100
    elif damage == "pickle":
        np.save(file.with_suffix(".npy"), np.array([{}], object), allow_pickle=True)
        data[16:] = file.with_suffix(".npy").read_bytes()
    else:  # the file of another source under this name
        other = source.with_name("other.wav")
        other.write_bytes(b"1")
        load(folder, other, Builder())
        (other_file,) = set(folder.rglob("*.npz")) - {file}
        data = bytearray(other_file.read_bytes())
    file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        arrays = load(folder, source, build)
    assert build.calls == 2
    assert arrays["pixels"][2, 3] == 11
    assert str(file) in caplog.text
    load(folder, source, build)
    assert build.calls == 2


def test_full_disk_is_one_warning(
    folder: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Arrays are returned all the same, no partial file stays, and earlier files are still read."""
    build, cache = Builder(), FeatureCache(folder)
    cache.load("sounds", [source], {"rate": 0}, build)

    def fill_up(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fill_up)
    with caplog.at_level(logging.WARNING):
        for rate in (1, 2):
            assert cache.load("sounds", [source], {"rate": rate}, build)["num"] == 7
    assert len(caplog.records) == 1
    assert str(folder) in caplog.text
    assert os.strerror(errno.ENOSPC) in cache.write_error
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1
    cache.load("sounds", [source], {"rate": 0}, build)
    assert cache.hits == 1


def test_folder_that_cannot_be_made(source: Path) -> None:
    """A file is in the way: arrays are returned all the same."""
    cache = FeatureCache(source)
    assert cache.load("sounds", [source], {}, Builder())["num"] == 7
    assert str(source) in cache.write_error


def test_missing_source_and_failed_build(folder: Path, source: Path) -> None:
    """Neither writes a file."""
    with pytest.raises(DatasetError, match=r"b\.wav"):
        load(folder, source.with_name("b.wav"), Builder())

    def fail() -> Arrays:
        raise DatasetError("broken")

    with pytest.raises(DatasetError, match="broken"):
        FeatureCache(folder).load("sounds", [source], {}, fail)
    assert not folder.exists()
