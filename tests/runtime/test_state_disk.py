"""The disk that updates need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emotion_edge.runtime.update_check import MIN_FREE_BYTES, StateDisk, check_disk

FREE = MIN_FREE_BYTES // 4096


def disk_with(free_blocks: int, flag: int = 0) -> os.statvfs_result:
    """Of blocks of 4 KiB."""
    return os.statvfs_result((4096, 4096, 1 << 20, free_blocks, free_blocks, 99, 99, 99, flag, 255))


def test_judgement() -> None:
    """Room for the least, less than that, none to write."""
    assert check_disk(disk_with(FREE)) == ""
    assert check_disk(disk_with(FREE - 1)) == "disk: full"
    assert check_disk(disk_with(FREE, os.ST_RDONLY)) == "disk: read-only"


def test_disk_fault_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It fills up and is emptied: two lines, however often it is looked at."""
    free = [FREE]
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(free[0]))
    disk = StateDisk({"STATE_DIRECTORY": "/state"})
    disk.poll()
    assert disk.fault == ""
    free[0] = 0
    for _ in range(3):
        disk.poll()
        assert disk.fault == "disk: full"
    free[0] = FREE
    for _ in range(3):
        disk.poll()
    assert disk.fault == ""
    assert [record.message for record in caplog.records] == [
        "disk: full",
        "disk can be written again",
    ]


def test_other_cause_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full, and then read-only after an error."""
    flag = [0]
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(0, flag[0]))
    disk = StateDisk({"STATE_DIRECTORY": "/state"})
    for flag[0] in (0, 0, os.ST_RDONLY, os.ST_RDONLY):
        disk.poll()
    assert caplog.messages == ["disk: full", "disk: read-only"]


def test_folder_that_is_gone(tmp_path: Path) -> None:
    """Named with the reason."""
    disk = StateDisk({"STATE_DIRECTORY": str(tmp_path / "gone")})
    disk.poll()
    assert disk.fault == f"disk: No such file or directory: {tmp_path / 'gone'}"


def test_nothing_outside_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is made."""
    monkeypatch.setattr(os, "statvfs", None)
    disk = StateDisk({})
    disk.poll()
    assert disk.fault == ""
