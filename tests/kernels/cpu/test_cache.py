"""Compiled kernels that can be read and not written."""

from __future__ import annotations

import logging
from pathlib import Path

import numba
import pytest

from emotion_edge.kernels.cpu import cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, with a kernel in it."""
    folder = tmp_path / "numba"
    (folder / "kernels_1").mkdir(parents=True)
    (folder / "kernels_1/face.nbc").write_bytes(b"code")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return folder


def test_writable_cache_is_used(folder: Path) -> None:
    """As it is."""
    cache.copy_readonly_cache()
    assert str(folder) == numba.config.CACHE_DIR


def test_read_only_cache_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where temporary files go, with all that is in it."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(cache, "can_write", lambda it: it != folder)
    cache.copy_readonly_cache()
    copy = Path(numba.config.CACHE_DIR)
    assert copy.parent == folder.parent
    assert (copy / "kernels_1/face.nbc").read_bytes() == b"code"
    assert caplog.messages == [
        f"{folder} cannot be written: its compiled kernels are read from a copy"
    ]


def test_writing_is_tried(folder: Path, tmp_path: Path) -> None:
    """A folder, and one that is none."""
    assert cache.can_write(folder)
    assert not cache.can_write(tmp_path / "gone")
    assert list(folder.iterdir()) == [folder / "kernels_1"]
