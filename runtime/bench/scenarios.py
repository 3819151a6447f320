"""Scenarios of a benchmark: their phases, and the scheduler of the disturbance in them.

In: a scenario's name and a duration. Out: phases with times, and the phases as measured.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..clock import Clock
from ..config import ConfigError
from ..messages import SourceError
from ..session import Runtime
from .recorder import Recorder

MIN_PHASE_S = 0.5


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run. Times count from the end of the warm-up."""

    name: str
    from_s: float = 0.0
    to_s: float = 0.0
    disturbed: bool = False
    """The scenario's disturbance is on: CPU load, or a CPU quota."""
    video: bool = True
    audio: bool = True
    faces: int | None = None
    """Number of faces to make of the clip's image: 0, 1 or 4. None leaves it as it is."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A sequence of phases of equal length."""

    name: str
    default_s: float
    parts: tuple[Phase, ...] = (Phase("steady"),)
    compare_pinned: bool = False
    """Run again pinned to the best level, to show the effect of the quality controller."""

    @property
    def stages_media(self) -> bool:
        """Whether frames or audio are changed, which a camera's cannot be."""
        return any(not (p.video and p.audio) or p.faces is not None for p in self.parts)

    def phases(self, seconds: float) -> tuple[Phase, ...]:
        """Return the parts with their times. Raises ConfigError when they are too short."""
        step_s = seconds / len(self.parts)
        if step_s < MIN_PHASE_S and len(self.parts) > 1:
            raise ConfigError(
                f"--seconds {seconds:g}: {self.name} has {len(self.parts)} phases of at least"
                f" {MIN_PHASE_S:g} s, at least {MIN_PHASE_S * len(self.parts):g} are needed"
            )
        return tuple(
            replace(part, from_s=number * step_s, to_s=(number + 1) * step_s)
            for number, part in enumerate(self.parts)
        )


def _intermittent(name: str) -> tuple[Phase, ...]:
    quiet, busy = Phase("quiet"), Phase(name, disturbed=True)
    return (quiet, busy, quiet, busy, quiet)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("steady", 20.0),
        Scenario("contended", 60.0, _intermittent("hogs"), compare_pinned=True),
        Scenario("throttled", 60.0, _intermittent("throttled"), compare_pinned=True),
        Scenario(
            "modality-loss",
            30.0,
            (
                Phase("both"),
                Phase("no sound", audio=False),
                Phase("both"),
                Phase("no pictures", video=False),
                Phase("both"),
            ),
        ),
        Scenario(
            "faces",
            30.0,
            (Phase("0 faces", faces=0), Phase("1 face", faces=1), Phase("4 faces", faces=4)),
        ),
        Scenario("soak", 1800.0),
    )
}


def find_phase(phases: Sequence[Phase], t_s: float) -> Phase:
    """Return the phase at `t_s`: the first one before the run, the last one after it."""
    number = bisect_right(phases, t_s, key=lambda phase: phase.from_s)
    return phases[max(0, number - 1)]


_JOIN_TIMEOUT_S = 5.0


class Disturbance(Protocol):
    """A change of the run's conditions, as a context manager. Leaving it undoes everything."""

    def attach(self, runtime: Runtime) -> None:
        """Prepare for a run. The pipeline's thread calls it before the first frame."""

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def describe(self) -> dict[str, object]:
        """Return the entry of the JSON file."""

    def __enter__(self) -> Disturbance: ...

    def __exit__(self, *error: object) -> None: ...


class PhaseScheduler:
    """A thread that begins and ends a disturbance, counted from the end of the warm-up.

    A context manager: leaving it raises SourceError for a failure of the disturbance.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        disturbance: Disturbance,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._phases = phases
        self._disturbance = disturbance
        self._recorder = recorder
        self._clock = clock
        self._begun_s = [phase.from_s for phase in phases]
        self._stop = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self.run, name="phase-scheduler", daemon=True)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases with the times at which the disturbance really began or ended."""
        ends = [*self._begun_s[1:], self._phases[-1].to_s]
        timed = zip(self._phases, self._begun_s, ends, strict=True)
        return tuple(replace(phase, from_s=from_s, to_s=to_s) for phase, from_s, to_s in timed)

    def run(self) -> None:
        """Run the thread's body."""
        disturbed = False
        self._recorder.started.wait()
        try:
            for number, phase in enumerate(self._phases):
                due_ns = self._recorder.start_ns + round(phase.from_s * 1e9)
                if self._clock.sleep_until_ns(due_ns, self._stop):
                    break
                if phase.disturbed != disturbed:
                    (self._disturbance.begin if phase.disturbed else self._disturbance.end)()
                    disturbed = phase.disturbed
                    done_s = (self._clock.now_ns() - self._recorder.start_ns) / 1e9
                    self._begun_s[number] = done_s
        except OSError as error:
            self._failure = error

    def __enter__(self) -> PhaseScheduler:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._recorder.started.set()  # it may still wait for the first frame
        self._thread.join(_JOIN_TIMEOUT_S)
        if kind is None and self._failure is not None:
            raise SourceError(f"the scenario failed: {self._failure}") from self._failure
