"""The trial of a bundle, and the disk that an update needs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.startup import BundleChoice
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import SourceError
from emotion_edge.runtime.service.indicator import IndicatorError
from emotion_edge.runtime.session import Runtime
from emotion_edge.runtime.update_check import (
    MIN_FREE_BYTES,
    StateDisk,
    Trial,
    check_disk,
    decide_trial,
)

HALF_NS = 500_000_000

# The trial


class FakeChoice:
    """A `BundleChoice` that records its outcome."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def mark_good(self) -> None:
        self.outcomes.append("good")

    def discount(self) -> None:
        self.outcomes.append("discounted")


@pytest.fixture
def choice() -> FakeChoice:
    return FakeChoice()


@pytest.fixture
def trial(choice: FakeChoice) -> Trial:
    """It begins at time 0."""
    return Trial(cast("BundleChoice", choice), 0)


def advance(
    trial: Trial, begin_ns: int, seconds: float, results: int, *, progressed: bool = True
) -> int:
    """Update for `seconds` as the monitor does -> the time of the next update."""
    end_ns = begin_ns + round(seconds * 1e9)
    for now_ns in range(begin_ns, end_ns, HALF_NS):
        trial.update(now_ns, results, progressed)
    return end_ns


def test_results_for_long_enough(trial: Trial, choice: FakeChoice) -> None:
    """The bundle is marked good once, 25 s after the first result."""
    at_ns = advance(trial, 0, 25, 1)
    assert choice.outcomes == []
    advance(trial, at_ns, 60, 100)
    assert choice.outcomes == ["good"]


def test_hang_at_the_first_frame_after_a_wait(trial: Trial, choice: FakeChoice) -> None:
    """An hour without a device discounts the start. Results that then stop do not mark it good."""
    at_ns = advance(trial, 0, 3600, 0)
    assert choice.outcomes == ["discounted"]
    at_ns = advance(trial, at_ns, 5, 3)
    advance(trial, at_ns, 3600, 3, progressed=False)
    assert choice.outcomes == ["discounted"]


def test_results_after_a_wait(trial: Trial, choice: FakeChoice) -> None:
    """They mark the bundle good; a camera that is missing for a while changes nothing."""
    at_ns = advance(trial, 0, 40, 0)
    advance(trial, at_ns, 26, 7)
    assert choice.outcomes == ["discounted", "good"]


@pytest.mark.parametrize(
    ("results", "error", "outcomes"),
    [
        (1, None, ["good"]),
        (0, None, ["discounted"]),
        (5, SourceError("no such camera"), ["discounted"]),
        (5, IndicatorError("no LED"), ["discounted"]),
        (5, ConfigError("metrics.port is in use"), ["discounted"]),
        (5, EngineError("face: NaN"), []),
        (5, RuntimeError("a bug, perhaps triggered by the bundle"), []),
    ],
)
def test_end_of_the_run(
    choice: FakeChoice, results: int, error: Exception | None, outcomes: list[str]
) -> None:
    """An orderly end with results is good. Errors that the bundle cannot cause do not count; all
    errors are raised."""
    runtime = SimpleNamespace(choice=choice, latency=SimpleNamespace(count=results))
    raised = None
    try:
        with decide_trial(cast("Runtime", runtime)):
            if error is not None:
                raise error
    except Exception as caught:  # noqa: BLE001
        raised = caught
    assert raised is error
    assert choice.outcomes == outcomes


# The disk

FREE = MIN_FREE_BYTES // 4096


def disk_with(free_blocks: int, flag: int = 0) -> os.statvfs_result:
    """A file system with blocks of 4 KiB."""
    return os.statvfs_result((4096, 4096, 1 << 20, free_blocks, free_blocks, 99, 99, 99, flag, 255))


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (disk_with(FREE), ""),
        (disk_with(FREE - 1), "disk: full"),
        (disk_with(FREE, os.ST_RDONLY), "disk: read-only"),
    ],
)
def test_check_of_a_disk(status: os.statvfs_result, fault: str) -> None:
    """Enough space, too little, none that can be written."""
    assert check_disk(status) == fault


def test_disk_fault_is_logged_at_each_transition(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it begins, one when its cause changes, one when it ends."""
    status = [disk_with(FREE)]
    monkeypatch.setattr(os, "statvfs", lambda _: status[0])
    disk = StateDisk({"STATE_DIRECTORY": "/state"})
    faults = []
    for status[0] in (disk_with(FREE), disk_with(0), disk_with(0, os.ST_RDONLY), disk_with(FREE)):
        for _ in range(3):
            disk.poll()
        faults.append(disk.fault)
    assert faults == ["", "disk: full", "disk: read-only", ""]
    assert caplog.messages[:2] == faults[1:3]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


def test_missing_state_folder(tmp_path: Path) -> None:
    """The fault names it."""
    disk = StateDisk({"STATE_DIRECTORY": str(tmp_path / "gone")})
    disk.poll()
    assert str(tmp_path / "gone") in disk.fault


def test_no_disk_check_outside_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without STATE_DIRECTORY there is no system call."""
    monkeypatch.setattr(os, "statvfs", None)
    disk = StateDisk({})
    disk.poll()
    assert disk.fault == ""
