"""Scenarios as data: which phases, when."""

from __future__ import annotations

import pytest

from emotion_edge.runtime.bench.scenarios import SCENARIOS, find_phase
from emotion_edge.runtime.config import ConfigError


def test_phases_share_the_time() -> None:
    """Equal parts without gaps, the disturbance in every second one."""
    phases = SCENARIOS["contended"].phases(60.0)
    assert [(p.from_s, p.to_s) for p in phases] == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60)]
    assert [p.disturbed for p in phases] == [False, True, False, True, False]


def test_steady_run_has_no_minimum_duration() -> None:
    """There is nothing that could be too short."""
    (phase,) = SCENARIOS["steady"].phases(0.1)
    assert (phase.from_s, phase.to_s) == (0.0, 0.1)


def test_too_short_for_the_phases() -> None:
    """One line with what would be enough."""
    with pytest.raises(ConfigError) as error:
        SCENARIOS["throttled"].phases(2.4)
    says = "--seconds 2.4: throttled has 5 phases of at least 0.5 s, at least 2.5 are needed"
    assert str(error.value) == says
    assert len(SCENARIOS["throttled"].phases(2.5)) == 5


def test_what_needs_a_clip() -> None:
    """A camera's pictures and sound cannot be changed; the processor can be kept busy beside it."""
    staged = {name for name, scenario in SCENARIOS.items() if scenario.stages_media}
    assert staged == {"modality-loss", "faces"}


def test_phase_at_a_time() -> None:
    """The warm-up is like the first phase; a border belongs to what begins there."""
    phases = SCENARIOS["faces"].phases(30.0)
    found = [find_phase(phases, t_s).faces for t_s in (-1.0, 0.0, 9.99, 10.0, 20.0, 99.0)]
    assert found == [0, 0, 0, 1, 4, 4]
