"""What happens while a benchmark runs: for each scenario, its phases and what is so in each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..config import ConfigError

WARM_UP_S = 1.0
"""Before the first phase; it is as the first phase is. Engines are warm by then, caches are not."""
MIN_PHASE_S = 0.5


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run; times count from the end of the warm-up."""

    name: str
    from_s: float = 0.0
    to_s: float = 0.0
    disturbed: bool = False
    """The scenario's disturbance is on: processes that spin, or a processor that is rationed."""
    video: bool = True
    audio: bool = True
    faces: int | None = None
    """How many are made of the clip's picture: 0, 1 or 4; None: it is left alone."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run goes through, in phases of equal length."""

    name: str
    default_s: float
    parts: tuple[Phase, ...] = (Phase("steady"),)
    compare_pinned: bool = False
    """The same again at the best level, to show what the quality controller is worth."""

    @property
    def stages_media(self) -> bool:
        """Pictures or sound are changed, which a camera's cannot be."""
        return any(not (p.video and p.audio) or p.faces is not None for p in self.parts)

    def phases(self, seconds: float) -> tuple[Phase, ...]:
        """The parts with their times. Raises ConfigError when they would be too short."""
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
    """The phase at `t_s`; the first before it, the last after it."""
    at = bisect_right(phases, t_s, key=lambda phase: phase.from_s)
    return phases[max(0, at - 1)]
