"""The disk that updates need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emotion_edge.runtime.state_disk import LEAST_FREE_BYTES, StateDisk, judge_disk

FREE = LEAST_FREE_BYTES // 4096


def disk_with(free_blocks: int, flag: int = 0) -> os.statvfs_result:
    """Of blocks of 4 KiB."""
    return os.statvfs_result((4096, 4096, 1 << 20, free_blocks, free_blocks, 99, 99, 99, flag, 255))


def test_judgement() -> None:
    """Room for the least, less than that, none to write."""
    assert judge_disk(disk_with(FREE)) == ""
    assert judge_disk(disk_with(FREE - 1)) == "disk: full"
    assert judge_disk(disk_with(FREE, os.ST_RDONLY)) == "disk: read-only"


def test_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It fills up and is emptied: two lines, however often it is looked at."""
    free = [FREE]
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(free[0]))
    disk = StateDisk({"STATE_DIRECTORY": "/state"})
    disk.look()
    assert disk.trouble == ""
    free[0] = 0
    for _ in range(3):
        disk.look()
        assert disk.trouble == "disk: full"
    free[0] = FREE
    for _ in range(3):
        disk.look()
    assert disk.trouble == ""
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
        disk.look()
    assert caplog.messages == ["disk: full", "disk: read-only"]


def test_folder_that_is_gone(tmp_path: Path) -> None:
    """Named with the reason."""
    disk = StateDisk({"STATE_DIRECTORY": str(tmp_path / "gone")})
    disk.look()
    assert disk.trouble == f"disk: No such file or directory: {tmp_path / 'gone'}"


def test_nothing_outside_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is made."""
    monkeypatch.setattr(os, "statvfs", None)
    disk = StateDisk({})
    disk.look()
    assert disk.trouble == ""
