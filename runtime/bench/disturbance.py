"""What is done to a run: switched on and off at the borders of its phases.

In: phases, and something that can be begun and ended. Out: the phases as they really came.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ..clock import Clock
from ..messages import SourceError
from ..session import Runtime
from .recorder import Recorder
from .scenarios import Phase

_JOIN_TIMEOUT_S = 5.0


class Disturbance(Protocol):
    """A context manager; leaving it undoes everything."""

    def attach(self, runtime: Runtime) -> None:
        """Before the first picture, called by the thread that makes results."""

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def describe(self) -> dict[str, object]:
        """As in the JSON file."""

    def __enter__(self) -> Disturbance: ...

    def __exit__(self, *error: object) -> None: ...


class PhaseScheduler:
    """Begins and ends a disturbance in a thread of its own, counted from the recorder's warm-up.

    A context manager: leaving it raises SourceError for what could not be done.
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
        self._thread = threading.Thread(target=self.run, name="director", daemon=True)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """With the times at which the disturbance had begun or ended."""
        ends = [*self._begun_s[1:], self._phases[-1].to_s]
        timed = zip(self._phases, self._begun_s, ends, strict=True)
        return tuple(replace(phase, from_s=from_s, to_s=to_s) for phase, from_s, to_s in timed)

    def run(self) -> None:
        """The thread's body."""
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
        self._recorder.started.set()  # it may still wait for the first picture
        self._thread.join(_JOIN_TIMEOUT_S)
        if kind is None and self._failure is not None:
            raise SourceError(f"the scenario could not go on: {self._failure}") from self._failure
