"""A fault is logged at its beginning, at a change of its cause and at its end, and never floods."""

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
    """A function (causes, seconds between them) -> what is logged as a warning."""
    clock = FakeClock()
    faults = FaultLog(LOG, OVER, clock)

    def log(causes: Iterable[str], step_s: float = 0.5) -> list[str]:
        caplog.clear()
        for cause in causes:
            faults.log_transition(cause)
            assert faults.fault == cause
            clock.advance(round(step_s * SECOND))
        return [one.message for one in caplog.records if one.levelno == logging.WARNING]

    return log


def test_beginning_change_and_end(play: Play) -> None:
    """Once each, however often it is looked at; the next fault starts anew."""
    assert play(["", "", "lost", "lost", "gone", "gone", "", ""]) == ["lost", "gone", OVER]
    assert play(["gone", "", "lost"]) == ["gone", OVER, "lost"]


def test_each_cause_is_logged_at_once(play: Play) -> None:
    """They follow each other as fast as attempts do."""
    causes = [f"cause {n}" for n in range(CAUSES_AT_ONCE)]
    assert play(causes, step_s=0) == causes


@pytest.mark.parametrize("step_s", [0.03, 0.5, 5.0])
def test_causes_that_alternate_do_not_flood(play: Play, step_s: float) -> None:
    """Two lines at once, then fewer and fewer: about one an hour."""
    attempts = round(24 * 3600 / max(step_s, 0.5))
    told = play(itertools.islice(itertools.cycle(["lost", "gone"]), attempts), step_s)
    assert told[:2] == ["lost", "gone"]
    assert len(told) < 40
    assert play([""]) == [OVER]


def test_text_with_a_number_does_not_flood(play: Play) -> None:
    """As if it alternated between very many causes."""
    told = play(f"nothing for {n} s" for n in range(24 * 3600))
    assert len(told) < 40


@pytest.mark.parametrize("stay_s", [1, 100_000])
def test_newest_line_is_true_after_a_while(play: Play, stay_s: int) -> None:
    """A cause that is there again stays there: it is said within a minute, and once."""
    assert play(["lost", "gone"]) == ["lost", "gone"]
    play(["gone"], stay_s)
    told = play(["lost"] * 122)
    assert told == ["lost"]


def test_held_back_is_seen_while_debugging(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost for who looks for it."""
    faults = FaultLog(LOG, OVER, FakeClock())
    with caplog.at_level(logging.DEBUG, LOG.name):
        for cause in ("lost", "gone", "lost"):
            faults.log_transition(cause)
    assert [one.levelno for one in caplog.records] == [logging.WARNING] * 2 + [logging.DEBUG]


def test_level_and_no_word_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """As the caller wants it."""
    faults = FaultLog(LOG, clock=FakeClock())
    faults.log_transition("lost", logging.ERROR)
    faults.log_transition("")
    assert [(one.levelno, one.message) for one in caplog.records] == [(logging.ERROR, "lost")]
