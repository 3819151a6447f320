"""Numba's cache of compiled kernels on a read-only disk."""

from __future__ import annotations

import logging
from pathlib import Path

import numba
import pytest

from emotion_edge.kernels.cpu import cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a compiled kernel in it."""
    folder = tmp_path / "numba"
    (folder / "kernels_1").mkdir(parents=True)
    (folder / "kernels_1/face.nbc").write_bytes(b"code")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return folder


def test_writable_cache_is_used(folder: Path) -> None:
    """A writable cache is used in place."""
    cache.copy_readonly_cache()
    assert str(folder) == numba.config.CACHE_DIR


def test_read_only_cache_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its contents are copied to the folder for temporary files, with one warning."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(cache, "can_write", lambda it: it != folder)
    cache.copy_readonly_cache()
    copy = Path(numba.config.CACHE_DIR)
    assert copy.parent == folder.parent
    assert (copy / "kernels_1/face.nbc").read_bytes() == b"code"
    (record,) = caplog.records
    assert str(folder) in record.getMessage()


def test_writing_is_tried(folder: Path, tmp_path: Path) -> None:
    """A probe file is written and removed; a missing folder is not writable."""
    assert cache.can_write(folder)
    assert not cache.can_write(tmp_path / "gone")
    assert list(folder.iterdir()) == [folder / "kernels_1"]
