"""Scenarios: their phases, and the scheduler of the disturbance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emotion_edge.runtime.bench.scenarios import SCENARIOS, Phase, PhaseScheduler, find_phase
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import ConfigError
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


def test_phases_share_the_time() -> None:
    """Parts are equal and without gaps. The disturbance is in every second one."""
    phases = SCENARIOS["contended"].phases(60.0)
    assert [(p.from_s, p.to_s) for p in phases] == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60)]
    assert [p.disturbed for p in phases] == [False, True, False, True, False]


def test_steady_run_has_no_minimum_duration() -> None:
    (phase,) = SCENARIOS["steady"].phases(0.1)
    assert (phase.from_s, phase.to_s) == (0.0, 0.1)


def test_too_short_for_the_phases() -> None:
    """The error names the option and the minimum."""
    with pytest.raises(ConfigError, match=r"--seconds 2\.4: .* 2\.5 "):
        SCENARIOS["throttled"].phases(2.4)
    assert len(SCENARIOS["throttled"].phases(2.5)) == 5


def test_scenarios_that_need_a_clip() -> None:
    """A camera's frames and audio cannot be changed. Load works beside it."""
    staged = {name for name, scenario in SCENARIOS.items() if scenario.stages_media}
    assert staged == {"modality-loss", "faces"}


def test_phase_at_a_time() -> None:
    """The warm-up belongs to the first phase, a border to the phase that begins there."""
    phases = SCENARIOS["faces"].phases(30.0)
    faces = [find_phase(phases, t_s).faces for t_s in (-1.0, 0.0, 9.99, 10.0, 20.0, 99.0)]
    assert faces == [0, 0, 0, 1, 4, 4]


class Spy:
    """A disturbance that takes 0.25 s to begin, or fails."""

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
    """It counts from the end of the warm-up. The phases have the real times."""
    clock = FakeClock()
    spy = Spy(clock)
    run.frame(500.0)
    scheduler = PhaseScheduler(PHASES, spy, run.recorder, clock)
    scheduler.run()
    assert spy.calls == [("begin", 3.5), ("end", 6.5)]
    assert [(p.from_s, p.to_s) for p in scheduler.phases] == [(0, 2.25), (2.25, 4), (4, 5), (5, 6)]


def test_failure_is_raised_at_the_end(run: Run) -> None:
    clock = FakeClock()
    scheduler = PhaseScheduler(PHASES, Spy(clock, OSError(13, "no")), run.recorder, clock)
    run.frame(0.0)
    with pytest.raises(SourceError, match="Errno 13"), scheduler:
        scheduler._thread.join()


def test_run_without_a_frame(run: Run) -> None:
    """Leaving ends the waiting thread, and another error is not replaced."""
    clock = FakeClock()
    spy = Spy(clock)
    scheduler = PhaseScheduler(PHASES, spy, run.recorder, clock)
    with pytest.raises(KeyError), scheduler:
        raise KeyError
    assert not scheduler._thread.is_alive()
    assert spy.calls == []
