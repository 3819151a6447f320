"""When a disturbance comes and goes, on a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emotion_edge.runtime.bench.disturbance import PhaseScheduler
from emotion_edge.runtime.bench.scenarios import Phase
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

if TYPE_CHECKING:
    from .conftest import Run

SECOND = 1_000_000_000
PHASES = (
    Phase("quiet", 0.0, 2.0),
    Phase("busy", 2.0, 4.0, disturbed=True),
    Phase("busy still", 4.0, 5.0, disturbed=True),
    Phase("quiet", 5.0, 6.0),
)


class Spy:
    """A disturbance that takes 0.25 s to begin, and may fail at it."""

    def __init__(self, clock: FakeClock, failure: OSError | None = None) -> None:
        self.clock = clock
        self.failure = failure
        self.calls: list[tuple[str, float]] = []

    def attach(self, runtime: object) -> None: ...

    def begin(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.calls.append(("begin", self.clock.now_ns() / SECOND))
        self.clock.advance(SECOND // 4)

    def end(self) -> None:
        self.calls.append(("end", self.clock.now_ns() / SECOND))

    def describe(self) -> dict[str, object]:
        return {}

    def __enter__(self) -> Spy:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_disturbance_follows_the_phases(run: Run) -> None:
    """Counted from the end of the warm-up; the phases say when it really had begun."""
    clock = FakeClock()
    spy = Spy(clock)
    run.picture(500.0)
    director = PhaseScheduler(PHASES, spy, run.recorder, clock)
    director.run()
    assert spy.calls == [("begin", 3.5), ("end", 6.5)]
    assert [(p.from_s, p.to_s) for p in director.phases] == [(0, 2.25), (2.25, 4), (4, 5), (5, 6)]


def test_failure_is_raised_at_the_end(run: Run) -> None:
    """The thread's error is not lost with it."""
    clock = FakeClock()
    director = PhaseScheduler(PHASES, Spy(clock, OSError(13, "no")), run.recorder, clock)
    run.picture(0.0)
    with pytest.raises(SourceError, match=r"could not go on: \[Errno 13\] no"), director:
        director._thread.join()


def test_a_run_that_never_began(run: Run) -> None:
    """Leaving ends the thread although no picture ever came, and another error goes first."""
    clock = FakeClock()
    spy = Spy(clock)
    director = PhaseScheduler(PHASES, spy, run.recorder, clock)
    with pytest.raises(KeyError), director:
        raise KeyError
    assert not director._thread.is_alive()
    assert spy.calls == []
