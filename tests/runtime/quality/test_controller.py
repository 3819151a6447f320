"""The quality controller, wound up and down, and against loads that hypothesis makes up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_edge.runtime.board.status import BoardStatus
from emotion_edge.runtime.quality.controller import LevelCost, LevelSwitch, QualityController

SECOND = 1_000_000_000
BUDGET_MS = 45.0
COSTS = (
    LevelCost("high", 0.5, 10.0, 6.0),
    LevelCost("medium", 0.5, 5.0, 6.0),
    LevelCost("low", 0.5, 3.0, 3.0),
    LevelCost("minimal", 0.5, 2.0, 0.0),
)


def make_board(**given: Any) -> BoardStatus:
    """A board that is well, less what is said otherwise."""
    return replace(BoardStatus(10.0, 4000.0, 300.0, 50.0, None), **given)


@dataclass
class Plant:
    """A machine: every level's cost times a slow-down, a wait, and some scatter of both."""

    controller: QualityController
    fps: float = 30.0
    seed: int = 0
    scatter: float = 0.1
    tells_pressure: bool = True
    tail_ms: float = 0.0
    """Every tenth picture or so waits longer, by this much on average."""
    sees: bool = True
    """There is a face in the picture, and somebody speaks."""
    t_ns: int = 5 * SECOND
    switches: list[tuple[float, LevelSwitch]] = field(default_factory=list)
    misses: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(
        self,
        seconds: float,
        slow_down: float | Callable[[int], float] = 1.0,
        wait_ms: float | Callable[[int], float] = 0.5,
        pressure: float = 0.0,
        board: BoardStatus | None = None,
    ) -> None:
        """Figures may depend on the level, as a load does that a light level slips past."""
        start_ns = self.t_ns
        costs = self.controller._costs
        board_due_ns = self.t_ns
        while self.t_ns < start_ns + seconds * SECOND:
            if self.t_ns >= board_due_ns:
                board_due_ns += SECOND // 2
                told = pressure if self.tells_pressure else None
                self.controller.note_board(board or make_board(cpu_pressure=told))
            level = self.controller.level
            factor = slow_down(level) if callable(slow_down) else slow_down
            wait = wait_ms(level) if callable(wait_ms) else wait_ms
            voice = self.sees and self.frames % 6 == 0 and costs[level].voice_ms > 0
            noise = math.exp(self._random.gauss(0, self.scatter))
            work = costs[level].expected_ms(self.sees, voice) * factor * noise
            wait *= math.exp(self._random.gauss(0, self.scatter))
            if self.tail_ms and self._random.random() < 0.1:
                wait += self._random.expovariate(1 / self.tail_ms)
            self.frames += 1
            self.misses += wait + work > BUDGET_MS
            switch = self.controller.observe(self.t_ns, wait, work, self.sees, voice)
            if switch is not None:
                self.switches.append(((self.t_ns - start_ns) / SECOND, switch))
            self.t_ns += round(SECOND / self.fps)


def make_plant(**given: object) -> Plant:
    return Plant(QualityController(COSTS, BUDGET_MS), **given)  # type: ignore[arg-type]


def test_it_stays_at_the_best_level_when_nothing_happens() -> None:
    """Not one switch in ten minutes."""
    plant = make_plant(scatter=0.2)
    plant.run(600)
    assert plant.switches == []
    assert plant.misses == 0


def test_single_late_frame_does_not_switch() -> None:
    """An accident is no load."""
    plant = make_plant()
    for _ in range(20):
        plant.run(30)
        assert plant.controller.observe(plant.t_ns, 2.0, 200.0, True, False) is None
    assert plant.switches == []


def test_frame_without_networks_does_not_change_the_slow_down() -> None:
    """Nobody to look at, nobody to hear: what little work there is may take ten times as long."""
    plant = make_plant()
    plant.run(10)
    controller, chance = plant.controller, random.Random(0)
    for number in range(3000):
        work_ms = 0.5 * math.exp(chance.gauss(0, 1))
        switch = controller.observe(
            plant.t_ns + number * SECOND // 30, 0.5, work_ms, face=False, voice=False
        )
        assert switch is None


def test_rising_load_steps_down_and_falling_load_steps_up() -> None:
    """Level by level as the machine gets slower, and back to the top when it is as it was."""
    plant = make_plant()
    plant.run(10)
    visited = [0]
    for factor in (1.0, 2.0, 4.0, 6.0, 10.0, 15.0):
        plant.run(10, slow_down=factor)
        visited.append(plant.controller.level)
    assert visited == sorted(visited)
    assert visited[-1] == 3
    assert {1, 2} <= set(visited)
    for factor in (8.0, 4.0, 2.0, 1.0):
        plant.run(10, slow_down=factor)
        visited.append(plant.controller.level)
    assert visited[-4:] == sorted(visited[-4:], reverse=True)
    assert plant.controller.level == 0


def test_sudden_load_costs_few_frames_and_the_top_level_returns() -> None:
    """At most 6 pictures late for each time the load comes; the top within 5 s of its end."""
    plant = make_plant(scatter=0.3)
    for _ in range(5):
        plant.run(10)
        before = plant.misses
        plant.run(10, slow_down=6.0, pressure=0.9)
        assert plant.misses - before <= 6
        assert plant.controller.level > 0
        plant.run(5)
        assert plant.controller.level == 0


def test_failed_step_up_is_not_repeated_under_pressure() -> None:
    """Under pressure the heavy level fails though the light one shows nothing of it."""
    plant = make_plant()
    plant.run(10)
    plant.run(600, slow_down=lambda level: 6.0 if level < 2 else 1.0, pressure=0.9)
    assert plant.misses <= 0.01 * plant.frames
    assert len(plant.switches) <= 30
    plant.run(5)
    assert plant.controller.level == 0


def test_a_busy_processor_is_pressure_too() -> None:
    """Beside a load that goes first, a light level hardly waits; the load is there all the same."""
    plant = make_plant()
    plant.run(10)
    busy = make_board(cpu_percent=95.0, cpu_pressure=0.1)
    plant.run(25, slow_down=lambda level: 6.0 if level < 2 else 1.0, board=busy)
    assert len(plant.switches) <= 3
    plant.run(3)
    assert plant.controller.level == 0


def test_failed_step_up_is_not_repeated_without_pressure_readings() -> None:
    """Each climb that fails doubles the patience before the next."""
    plant = make_plant(tells_pressure=False)
    plant.run(10)
    plant.run(1200, slow_down=lambda level: 6.0 if level < 2 else 1.0)
    assert len(plant.switches) <= 30
    assert plant.misses <= 0.01 * plant.frames
    plant.run(620)
    assert plant.controller.level == 0


def test_too_many_misses_outrank_the_prediction() -> None:
    """One picture in thirty late, all others quick: the level is left within seconds."""
    plant = make_plant()
    for _ in range(5):
        plant.run(0.5)
        plant.controller.observe(plant.t_ns, 1.0, 100.0, True, False)
    assert plant.controller.level > 0


def test_throttling_steps_down_before_it_shows() -> None:
    """One more event, one level; no climb until the board has been quiet for a while."""
    plant = make_plant()
    well = make_board(throttle_events={"under-voltage": 7})
    plant.run(10, 1.5, board=well)
    after = make_board(throttle_events={"under-voltage": 8})
    plant.run(1, 1.5, board=after)
    assert plant.controller.level == 1
    assert "throttles itself" in plant.switches[0][1].reason
    plant.run(25, board=after)
    assert plant.controller.level == 1
    plant.run(10, board=after)
    assert plant.controller.level == 0


def test_throttling_is_remembered_until_the_next_step() -> None:
    """Right after the start no step is taken; a little later it is, and it is one step."""
    plant = make_plant()
    plant.run(2, 1.5, board=make_board(throttle_events={"thermal": 1}))
    plant.run(1, 1.5, board=make_board(throttle_events={"thermal": 2}))
    plant.run(20, 1.5, board=make_board(throttle_events={"thermal": 2}))
    assert plant.controller.level == 1


def test_throttling_below_half_the_budget_is_ignored() -> None:
    """A budget that holds at half the clock is worth no level: many laptops always throttle."""
    plant = make_plant()
    for count in range(60):
        plant.run(0.5, 0.5, board=make_board(throttle_events={"thermal": count}))
    assert plant.switches == []


def test_load_that_ends_without_a_face() -> None:
    """At the lowest level, without voice, no network runs then; the top comes back all the same."""
    plant = make_plant()
    plant.run(10)
    plant.run(5, slow_down=15.0, pressure=0.9)
    assert plant.controller.level == 3
    plant.sees = False
    plant.run(10)
    assert plant.controller.level == 0
    assert not plant.controller.overloaded


def test_a_long_tail_is_not_hunted() -> None:
    """Every tenth picture is later by some: few are late, and the level is not always changed."""
    plant = make_plant(tail_ms=10.0)
    plant.run(600)
    assert len(plant.switches) <= 24


def test_a_counter_that_went_back_is_a_driver_loaded_again() -> None:
    """It is no event, and neither is one that was away for a while."""
    plant = make_plant()
    for events in ({"thermal": 9}, {"thermal": 0}, {}, {"thermal": 0}):
        plant.run(5, board=make_board(throttle_events=events))
    assert plant.switches == []


@pytest.mark.parametrize("need", [{"memory_available_mb": 20.0}, {"memory_pressure": 0.5}])
def test_a_lack_of_memory_steps_down(need: dict[str, Any]) -> None:
    """Not to the bottom at once: each step is given time to help."""
    plant = make_plant()
    plant.run(10)
    plant.run(3, board=make_board(**need))
    assert plant.controller.level == 1
    plant.run(60, board=make_board(**need))
    assert plant.controller.level == 3
    plant.run(30)
    assert plant.controller.level == 0


def test_unreachable_budget_runs_at_the_lowest_level() -> None:
    """And known to be one."""
    plant = Plant(QualityController(COSTS, 1.0))
    assert not plant.controller.overloaded
    plant.run(5)
    assert plant.controller.level == 3
    assert plant.controller.overloaded
    plant.run(60)
    assert plant.controller.level == 3
    assert len(plant.switches) <= 3


@pytest.mark.parametrize("jump_s", [86_400, -86_400])
def test_a_clock_that_jumps_does_no_harm(jump_s: int) -> None:
    """A day to either side: it goes on, and still comes back to the top soon."""
    plant = make_plant(t_ns=100_000 * SECOND)
    plant.run(10)
    plant.run(3, slow_down=8.0, pressure=0.9)
    assert plant.controller.level > 0
    plant.t_ns += jump_s * SECOND
    plant.run(5)
    assert plant.controller.level == 0


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -1.0])
def test_invalid_measurements_are_ignored(rubbish: float) -> None:
    """Neither as a wait nor as work."""
    controller = QualityController(COSTS, BUDGET_MS)
    before = controller.predict_ms(0)
    assert controller.observe(SECOND, rubbish, 1.0, True, True) is None
    assert controller.observe(SECOND, 1.0, rubbish, True, True) is None
    assert controller.predict_ms(0) == before


def test_levels_are_needed() -> None:
    """None at all is a mistake of ours."""
    with pytest.raises(ValueError, match="no level"):
        QualityController((), BUDGET_MS)


@settings(max_examples=60, derandomize=True)
@given(
    factor=st.floats(0.3, 40.0),
    wait_ms=st.floats(0.0, 60.0),
    scatter=st.floats(0.0, 0.25),
    pressure=st.sampled_from([None, 0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_a_steady_load_is_met_without_oscillation(
    factor: float, wait_ms: float, scatter: float, pressure: float | None, seed: int
) -> None:
    """Whatever the load: few switches, never above the budget when a lower level fits, and back at
    the top when it has gone."""
    plant = make_plant(scatter=scatter, seed=seed, tells_pressure=pressure is not None)
    plant.run(180, slow_down=factor, wait_ms=wait_ms, pressure=pressure or 0.0)
    assert len(plant.switches) <= 12
    late = [switch for at, switch in plant.switches if at > 60]
    assert len(late) <= 6
    fits = [
        level
        for level, cost in enumerate(COSTS)
        if (wait_ms + cost.full_ms * factor) * math.exp(3 * scatter) < 0.9 * BUDGET_MS
    ]
    if fits:
        before, plant.misses = plant.frames, 0
        plant.run(60, slow_down=factor, wait_ms=wait_ms, pressure=pressure or 0.0)
        assert plant.misses <= 0.01 * (plant.frames - before) + 3
    plant.run(10)
    if plant.controller.level:  # it may have had to be patient
        plant.run(600)
    assert plant.controller.level == 0
