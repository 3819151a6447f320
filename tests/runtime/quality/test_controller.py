"""The quality controller against a simulated machine under steady, rising and random loads."""

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
    """A board without any problem, except for `given`."""
    return replace(BoardStatus(10.0, 4000.0, 300.0, 50.0, None), **given)


@dataclass
class Plant:
    """A simulated machine: each level's cost times a slow-down, plus waiting, both with scatter."""

    controller: QualityController
    fps: float = 30.0
    seed: int = 0
    scatter: float = 0.1
    has_pressure: bool = True
    """Whether the board reports CPU pressure."""
    tail_ms: float = 0.0
    """About every tenth frame waits longer, by this much on average."""
    occupied: bool = True
    """Whether there are a face and a voice."""
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
        """`slow_down` and `wait_ms` may depend on the level."""
        start_ns = self.t_ns
        costs = self.controller._costs
        board_due_ns = self.t_ns
        while self.t_ns < start_ns + seconds * SECOND:
            if self.t_ns >= board_due_ns:
                board_due_ns += SECOND // 2
                reading = pressure if self.has_pressure else None
                self.controller.note_board(board or make_board(cpu_pressure=reading))
            level = self.controller.level
            factor = slow_down(level) if callable(slow_down) else slow_down
            wait = wait_ms(level) if callable(wait_ms) else wait_ms
            voice = self.occupied and self.frames % 6 == 0 and costs[level].voice_ms > 0
            noise = math.exp(self._random.gauss(0, self.scatter))
            work = costs[level].expected_ms(self.occupied, voice) * factor * noise
            wait *= math.exp(self._random.gauss(0, self.scatter))
            if self.tail_ms and self._random.random() < 0.1:
                wait += self._random.expovariate(1 / self.tail_ms)
            self.frames += 1
            self.misses += wait + work > BUDGET_MS
            switch = self.controller.observe(self.t_ns, wait, work, self.occupied, voice)
            if switch is not None:
                self.switches.append(((self.t_ns - start_ns) / SECOND, switch))
            self.t_ns += round(SECOND / self.fps)


def make_plant(**given: object) -> Plant:
    return Plant(QualityController(COSTS, BUDGET_MS), **given)  # type: ignore[arg-type]


def test_no_switch_without_load() -> None:
    """It stays at the best level for ten minutes."""
    plant = make_plant(scatter=0.2)
    plant.run(600)
    assert plant.switches == []
    assert plant.misses == 0


def test_single_late_frame_does_not_switch() -> None:
    """An outlier is not a load."""
    plant = make_plant()
    for _ in range(20):
        plant.run(30)
        assert plant.controller.observe(plant.t_ns, 2.0, 200.0, True, False) is None
    assert plant.switches == []


def test_frame_without_networks_does_not_change_the_slow_down() -> None:
    """Without face and voice there is little work; it may take ten times as long."""
    plant = make_plant()
    plant.run(10)
    controller, chance = plant.controller, random.Random(0)
    for number in range(3000):
        work_ms = 0.5 * math.exp(chance.gauss(0, 1))
        switch = controller.observe(
            plant.t_ns + number * SECOND // 30, 0.5, work_ms, faces=0, voice=False
        )
        assert switch is None


def test_rising_load_steps_down_and_falling_load_steps_up() -> None:
    """The level follows the speed of the machine down and back to the top."""
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
    """At most 6 misses each time the load begins; the top level within 5 s of its end."""
    plant = make_plant(scatter=0.3)
    for _ in range(5):
        plant.run(10)
        before = plant.misses
        plant.run(10, slow_down=6.0, pressure=0.9)
        assert plant.misses - before <= 6
        assert plant.controller.level > 0
        plant.run(5)
        assert plant.controller.level == 0


@pytest.mark.parametrize(
    ("has_pressure", "seconds", "recovery_s"), [(True, 600, 5), (False, 1200, 620)]
)
def test_failed_step_up_is_not_repeated(
    has_pressure: bool, seconds: float, recovery_s: float
) -> None:
    """A light level holds the budget beside a load where the heavy ones fail. Pressure, or without
    it a hold time that doubles with each failure, prevents repeated steps up."""
    plant = make_plant(has_pressure=has_pressure)
    plant.run(10)
    plant.run(seconds, slow_down=lambda level: 6.0 if level < 2 else 1.0, pressure=0.9)
    assert plant.misses <= 0.01 * plant.frames
    assert len(plant.switches) <= 30
    plant.run(recovery_s)
    assert plant.controller.level == 0


def test_high_utilization_counts_as_pressure() -> None:
    """A load of higher priority shows as CPU utilization, not as pressure."""
    plant = make_plant()
    plant.run(10)
    busy = make_board(cpu_percent=95.0, cpu_pressure=0.1)
    plant.run(25, slow_down=lambda level: 6.0 if level < 2 else 1.0, board=busy)
    assert len(plant.switches) <= 3
    plant.run(3)
    assert plant.controller.level == 0


def test_too_many_misses_step_down_whatever_the_prediction() -> None:
    """One frame in thirty is late and all others are fast: a step down within seconds."""
    plant = make_plant()
    for _ in range(5):
        plant.run(0.5)
        plant.controller.observe(plant.t_ns, 1.0, 100.0, True, False)
    assert plant.controller.level > 0


def test_throttling_steps_down_before_latency_rises() -> None:
    """One more event is one level; no step up until the board has been quiet for a while."""
    plant = make_plant()
    before = make_board(throttle_events={"under-voltage": 7})
    plant.run(10, 1.5, board=before)
    after = make_board(throttle_events={"under-voltage": 8})
    plant.run(1, 1.5, board=after)
    assert plant.controller.level == 1
    plant.run(25, board=after)
    assert plant.controller.level == 1
    plant.run(10, board=after)
    assert plant.controller.level == 0


def test_throttling_is_remembered_until_the_next_step() -> None:
    """Shortly after the start it waits for `FORCED_STEP_NS`, and then takes one step."""
    plant = make_plant()
    plant.run(2, 1.5, board=make_board(throttle_events={"thermal": 1}))
    plant.run(1, 1.5, board=make_board(throttle_events={"thermal": 2}))
    plant.run(20, 1.5, board=make_board(throttle_events={"thermal": 2}))
    assert plant.controller.level == 1


def test_throttling_below_half_the_budget_is_ignored() -> None:
    """The budget holds even at half the clock rate; many laptops always throttle."""
    plant = make_plant()
    for count in range(60):
        plant.run(0.5, 0.5, board=make_board(throttle_events={"thermal": count}))
    assert plant.switches == []


def test_load_that_ends_without_a_face() -> None:
    """No network runs at the lowest level then; the top level returns nevertheless."""
    plant = make_plant()
    plant.run(10)
    plant.run(5, slow_down=15.0, pressure=0.9)
    assert plant.controller.level == 3
    plant.occupied = False
    plant.run(10)
    assert plant.controller.level == 0
    assert not plant.controller.overloaded


def test_long_tail_does_not_cause_oscillation() -> None:
    """Every tenth frame waits longer; the level rarely changes."""
    plant = make_plant(tail_ms=10.0)
    plant.run(600)
    assert len(plant.switches) <= 24


def test_throttle_counter_that_goes_back_is_no_event() -> None:
    """A reloaded driver counts from 0; a counter may also be absent for a while."""
    plant = make_plant()
    for events in ({"thermal": 9}, {"thermal": 0}, {}, {"thermal": 0}):
        plant.run(5, board=make_board(throttle_events=events))
    assert plant.switches == []


@pytest.mark.parametrize("need", [{"memory_available_mb": 20.0}, {"memory_pressure": 0.5}])
def test_lack_of_memory_steps_down(need: dict[str, Any]) -> None:
    """One level at a time, with time between steps."""
    plant = make_plant()
    plant.run(10)
    plant.run(3, board=make_board(**need))
    assert plant.controller.level == 1
    plant.run(60, board=make_board(**need))
    assert plant.controller.level == 3
    plant.run(30)
    assert plant.controller.level == 0


def test_unreachable_budget_runs_at_the_lowest_level() -> None:
    """`overloaded` says so."""
    plant = Plant(QualityController(COSTS, 1.0))
    assert not plant.controller.overloaded
    plant.run(5)
    assert plant.controller.level == 3
    assert plant.controller.overloaded
    plant.run(60)
    assert plant.controller.level == 3
    assert len(plant.switches) <= 3


@pytest.mark.parametrize("jump_s", [86_400, -86_400])
def test_clock_jump(jump_s: int) -> None:
    """After a jump of a day, either way, the top level still returns within seconds."""
    plant = make_plant(t_ns=100_000 * SECOND)
    plant.run(10)
    plant.run(3, slow_down=8.0, pressure=0.9)
    assert plant.controller.level > 0
    plant.t_ns += jump_s * SECOND
    plant.run(5)
    assert plant.controller.level == 0


@pytest.mark.parametrize("invalid_ms", [math.nan, math.inf, -1.0])
def test_invalid_measurements_are_ignored(invalid_ms: float) -> None:
    """Both as waiting and as working time."""
    controller = QualityController(COSTS, BUDGET_MS)
    before = controller.predict_ms(0)
    assert controller.observe(SECOND, invalid_ms, 1.0, True, True) is None
    assert controller.observe(SECOND, 1.0, invalid_ms, True, True) is None
    assert controller.predict_ms(0) == before


def test_at_least_one_level() -> None:
    """None is a programming error."""
    with pytest.raises(ValueError, match="costs"):
        QualityController((), BUDGET_MS)


@settings(max_examples=60, derandomize=True)
@given(
    factor=st.floats(0.3, 40.0),
    wait_ms=st.floats(0.0, 60.0),
    scatter=st.floats(0.0, 0.25),
    pressure=st.sampled_from([None, 0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_steady_load_causes_no_oscillation(
    factor: float, wait_ms: float, scatter: float, pressure: float | None, seed: int
) -> None:
    """Whatever the load: few switches, within the budget if any level fits, and the top level again
    when the load has gone."""
    plant = make_plant(scatter=scatter, seed=seed, has_pressure=pressure is not None)
    plant.run(180, slow_down=factor, wait_ms=wait_ms, pressure=pressure or 0.0)
    assert len(plant.switches) <= 12
    late = [switch for at, switch in plant.switches if at > 60]
    assert len(late) <= 6
    fits = [
        level
        for level, cost in enumerate(COSTS)
        if (wait_ms + cost.full_ms() * factor) * math.exp(3 * scatter) < 0.9 * BUDGET_MS
    ]
    if fits:
        before, plant.misses = plant.frames, 0
        plant.run(60, slow_down=factor, wait_ms=wait_ms, pressure=pressure or 0.0)
        assert plant.misses <= 0.01 * (plant.frames - before) + 3
    plant.run(10)
    if plant.controller.level:  # the hold time may be long
        plant.run(600)
    assert plant.controller.level == 0


# Several faces

CROWD_COSTS = [
    LevelCost("high", 0.5, 10.0, 6.0, 9.0, 4),
    LevelCost("low", 0.5, 10.0, 6.0, 9.0, 2),
    LevelCost("minimal", 0.5, 2.0, 0.0, 2.0, 1),
]


def show_faces(controller: QualityController, t_s: float, present: int) -> str:
    """The levels visited in a second with so many faces, the work exactly as measured."""
    visited = [CROWD_COSTS[controller.level].name]
    for n in range(30):
        cost = CROWD_COSTS[controller.level]
        faces, t_ns = min(present, cost.max_faces), round((t_s + n / 30) * SECOND)
        work_ms = cost.expected_ms(faces, n % 6 == 0)
        if controller.observe(t_ns, 0.5, work_ms, faces, n % 6 == 0, present) is not None:
            visited.append(CROWD_COSTS[controller.level].name)
    return " ".join(visited)


def test_more_faces_step_down_and_fewer_step_up() -> None:
    """Four faces do not fit the budget at the best level, two do. The level that runs on two of
    them does not make it forget the others."""
    controller = QualityController(CROWD_COSTS, BUDGET_MS)
    assert show_faces(controller, 0, 1) == "high"
    assert show_faces(controller, 1, 2) == "high"
    assert show_faces(controller, 2, 4) == "high low"
    for second in range(3, 63):
        assert show_faces(controller, second, 4) == "low"
    seconds = [show_faces(controller, second, 1) for second in range(63, 73)]
    assert "low high" in seconds


def test_cost_of_faces() -> None:
    """Those beyond the limit of the level cost nothing."""
    cost = CROWD_COSTS[1]
    assert [cost.expected_ms(faces, False) for faces in (0, 1, 2, 3)] == [0.5, 10.5, 19.5, 19.5]
    assert (cost.full_ms(), cost.full_ms(0), cost.full_ms(9)) == (16.5, 16.5, 25.5)
