"""The log of a fault: each transition once, and few lines for causes that alternate."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable

import pytest

from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.faults import CAUSES_AT_ONCE, FaultLog

SECOND = 1_000_000_000
LOG = logging.getLogger("emotion_edge.test")
OVER = "it is back"
Play = Callable[..., list[str]]


@pytest.fixture
def play(caplog: pytest.LogCaptureFixture) -> Play:
    """A function (causes, seconds between them) -> the warnings that are logged."""
    clock = FakeClock()
    faults = FaultLog(LOG, OVER, clock)

    def log(causes: Iterable[str], step_s: float = 0.5) -> list[str]:
        caplog.clear()
        for cause in causes:
            faults.log_transition(cause)
            assert faults.fault == cause
            clock.advance(round(step_s * SECOND))
        return [record.message for record in caplog.records if record.levelno == logging.WARNING]

    return log


def test_beginning_change_and_end(play: Play) -> None:
    """One line each, however often it is polled; the next fault is logged in the same way."""
    assert play(["", "", "lost", "lost", "gone", "gone", "", ""]) == ["lost", "gone", OVER]
    assert play(["gone", "", "lost"]) == ["gone", OVER, "lost"]


def test_each_cause_is_logged_at_once(play: Play) -> None:
    """The first causes are logged however fast they follow each other."""
    causes = [f"cause {n}" for n in range(CAUSES_AT_ONCE)]
    assert play(causes, step_s=0) == causes


@pytest.mark.parametrize("step_s", [0.03, 0.5, 5.0])
def test_causes_that_alternate_do_not_flood(play: Play, step_s: float) -> None:
    """Two lines at once, later about one per hour."""
    attempts = round(24 * 3600 / max(step_s, 0.5))
    lines = play(itertools.islice(itertools.cycle(["lost", "gone"]), attempts), step_s)
    assert lines[:2] == ["lost", "gone"]
    assert len(lines) < 40
    assert play([""]) == [OVER]


def test_cause_with_a_changing_number_does_not_flood(play: Play) -> None:
    """It counts as a new cause each time."""
    assert len(play(f"nothing for {n} s" for n in range(24 * 3600))) < 40


@pytest.mark.parametrize("stay_s", [1, 100_000])
def test_cause_that_returns_is_logged_after_the_quiet_time(play: Play, stay_s: int) -> None:
    """Once, within a minute."""
    assert play(["lost", "gone"]) == ["lost", "gone"]
    play(["gone"], stay_s)
    assert play(["lost"] * 122) == ["lost"]


@pytest.mark.parametrize("step_s", [0.5, 20.0, 200.0])
def test_fault_that_comes_and_goes_does_not_flood(play: Play, step_s: float) -> None:
    """The first times at once, later about once an hour, each with its end."""
    episodes = round(24 * 3600 / 2 / step_s)
    lines = play(["lost", ""] * episodes, step_s)
    assert lines[: 2 * CAUSES_AT_ONCE] == ["lost", OVER] * CAUSES_AT_ONCE
    assert lines == ["lost", OVER] * (len(lines) // 2)
    assert len(lines) < 80


def test_fault_that_comes_back_to_stay_is_logged(play: Play) -> None:
    """After the quiet time, and so is its end."""
    play(["lost", ""] * 10)
    assert play(["lost"] * 122) == ["lost"]
    assert play([""]) == [OVER]


def test_fault_after_an_hour_without_is_logged_at_once(play: Play) -> None:
    """As if it was the first one."""
    play(["lost", ""] * 3600)
    assert play(["lost", "gone", ""]) == []
    play([""], 3600)
    assert play(["lost", ""] * 10) == ["lost", OVER] * CAUSES_AT_ONCE


def test_suppressed_lines_are_logged_as_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Each transition is in the log at its DEBUG level."""
    faults = FaultLog(LOG, OVER, FakeClock())
    with caplog.at_level(logging.DEBUG, LOG.name):
        for cause in ("lost", "gone", "lost", "lost"):
            faults.log_transition(cause)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING] * 2 + [logging.DEBUG]


def test_level_of_the_caller_and_silent_end(caplog: pytest.LogCaptureFixture) -> None:
    """A fault may be logged at another level, and its end not at all."""
    faults = FaultLog(LOG, clock=FakeClock())
    faults.log_transition("lost", logging.ERROR)
    faults.log_transition("")
    assert caplog.record_tuples == [(LOG.name, logging.ERROR, "lost")]
