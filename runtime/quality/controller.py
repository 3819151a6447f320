"""The quality controller: which level the next pictures are worth, from nothing but what it is
told.

In: what each picture waited and took, and the board's sensors. Out: the level to go on at. It knows
no clock and no device. What a picture will take at another level is predicted as

    waiting + slow-down x the level's cost on this machine when nothing else runs

where waiting and slow-down are each followed by a Kalman filter whose noise is learned from its own
errors, as in Wan et al., "ALERT: Accurate Learning for Energy and Timeliness" (USENIX ATC 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..board import BoardStatus

P99_SIGMAS = 2.33
NOISE_TIME_CONSTANT_NS = 200_000_000
"""How long what was learned about noise lasts, so that 30 pictures a second..."""
MIN_FORGETTING_FACTOR = 0.7
"""... or the eight of the lowest level tell within a second that a load has come or gone."""
STEP_DOWN_SHARE = 0.9
"""Share of the budget that a level may be predicted to use for us to go down to it..."""
STEP_UP_SHARE = 0.7
"""... and to go up to it."""
MISSES_ALLOWED = 2.5
MISSES_TIME_CONSTANT_NS = 10_000_000_000
"""So many misses in about this long (1 % of 30 pictures a second) are too many, however little the
prediction thinks of them."""
HOLD_NS = 1_500_000_000
"""Nothing climbs sooner than this after a change..."""
MAX_HOLD_NS = 600_000_000_000
"""... and after climbs that failed not for longer than this."""
FAILED_STEP_UP_NS = 60_000_000_000
"""A fall this soon after a climb means that the climb was wrong."""
PRESSURE_HOLD_NS = 30_000_000_000
"""As long as the processor is as sought after as when a level failed, it is not tried again before
this: a light level runs smoothly beside a load that a heavy one would stumble over."""
RELIEF_SHARE = 0.6
"""Share of the pressure at the fall below which that load has gone."""
MIN_PRESSURE = 0.2
"""Less than this is no load to speak of."""
PRESSURE_SETTLE_NS = 1_500_000_000
"""The sensors are read twice a second: what they say so long after a fall belongs to it."""
COOL_DOWN_NS = 30_000_000_000
"""No climb for this long after the board has throttled itself."""
THROTTLED_SHARE = 0.5
"""Share of the budget that is not enough when the board halves its clocks."""
FORCED_STEP_NS = 5_000_000_000
"""A board in need is given this long to feel a step before the next."""
MIN_MEMORY_MB = 100.0
MAX_MEMORY_PRESSURE = 0.1


@dataclass(frozen=True, slots=True)
class LevelCost:
    """What a picture takes at one level when nothing else runs, ms, without any waiting."""

    name: str
    base_ms: float
    """Preprocessing, fusion and all else that each picture needs."""
    face_ms: float
    voice_ms: float
    """More when the voice network is due; 0 for a level without voice."""

    def expected_ms(self, face: bool, voice: bool) -> float:
        return self.base_ms + face * self.face_ms + voice * self.voice_ms

    @property
    def full_ms(self) -> float:
        """Of a picture with a face on which the voice is due."""
        return self.base_ms + self.face_ms + self.voice_ms


@dataclass(frozen=True, slots=True)
class LevelSwitch:
    """A change of level."""

    level: int
    reason: str


class _KalmanFilter:
    """Follows a figure that wanders and scatters: its mean, and how far single values lie off."""

    CLIP_SIGMAS = 6.0
    """One value further off is an accident; a few of them in a row are the new normal."""

    def __init__(self, mean: float, scatter: float) -> None:
        self.mean = mean
        self._min_noise = scatter**2
        self._measurement_noise = self._min_noise
        self._process_noise = self._min_noise / 10
        self._mean_variance = self._min_noise

    def update(self, value: float, forgetting_factor: float) -> None:
        """`forgetting_factor` is the weight of what was known about the noise."""
        prior_variance = self._mean_variance + self._process_noise
        total = prior_variance + self._measurement_noise
        limit = self.CLIP_SIGMAS * math.sqrt(total)
        error = min(max(value - self.mean, -limit), limit)
        gain = prior_variance / total
        self.mean += gain * error
        self._mean_variance = (1 - gain) * prior_variance
        innovation_weight = 1 - forgetting_factor
        self._process_noise = max(
            self._min_noise / 10,
            forgetting_factor * self._process_noise + innovation_weight * (gain * error) ** 2,
        )
        self._measurement_noise = max(
            self._min_noise,
            forgetting_factor * self._measurement_noise + innovation_weight * error**2,
        )

    @property
    def variance(self) -> float:
        """Of the next value."""
        return self._mean_variance + self._measurement_noise


class QualityController:
    """One stream of pictures. `observe` is called by one thread; `note_board` may be by another."""

    def __init__(self, costs: Sequence[LevelCost], budget_ms: float) -> None:
        """`costs` of every level, best first. ValueError when there is none."""
        if not costs:
            raise ValueError("no level to choose from")
        self.level = 0
        self._costs = tuple(costs)
        self._budget_ms = budget_ms
        self._slow_down = _KalmanFilter(1.0, 0.1)
        self._wait = _KalmanFilter(1.0, 0.5)
        self._misses = 0.0
        self._newest_ns: int | None = None
        self._changed_ns = 0
        self._stepped_up_ns: int | None = None
        self._hold_ns = HOLD_NS
        self._stepped_down = False
        self._pressure = 0.0
        self._pressure_at_step_down = 0.0
        self._throttle_events: dict[str, int] = {}
        self._cool_until_ns = 0
        self._board: BoardStatus | None = None
        self._forced_reason = ""

    @property
    def overloaded(self) -> bool:
        """Not even the lowest level is predicted to hold the budget."""
        return self.level == len(self._costs) - 1 and self.predict_ms(self.level) > self._budget_ms

    def predict_ms(self, level: int) -> float:
        """The 99th percentile of capture to result at `level`, as things are."""
        cost = self._costs[level].full_ms
        spread = math.sqrt(self._wait.variance + cost**2 * self._slow_down.variance)
        return self._wait.mean + cost * self._slow_down.mean + P99_SIGMAS * spread

    def note_board(self, board: BoardStatus) -> None:
        """The sensors, about twice a second; taken into account with the next picture."""
        self._board = board

    def observe(
        self, t_ns: int, wait_ms: float, work_ms: float, face: bool, voice: bool
    ) -> LevelSwitch | None:
        """One picture at the current level: how long it waited, how long it took, which networks
        ran. `t_ns` is now. A switch means that `level` has changed already."""
        if not (0 <= wait_ms < math.inf and 0 <= work_ms < math.inf):
            return None
        elapsed_ns = self._advance_time(t_ns)
        forgetting_factor = max(
            MIN_FORGETTING_FACTOR, math.exp(-elapsed_ns / NOISE_TIME_CONSTANT_NS)
        )
        cost = self._costs[self.level]
        expected = cost.expected_ms(face, voice)
        # Where no network ran there is too little work to divide by.
        divisor_ms = expected if face or voice else cost.full_ms
        self._slow_down.update(
            1.0 + (work_ms - expected) / max(divisor_ms, 1e-3), forgetting_factor
        )
        self._wait.update(wait_ms, forgetting_factor)
        self._misses += wait_ms + work_ms > self._budget_ms
        board, self._board = self._board, None
        if board is not None:
            forced_reason = self._read_board(t_ns, board)
            was_just_forced = t_ns - self._changed_ns < FORCED_STEP_NS
            self._forced_reason = forced_reason or (self._forced_reason if was_just_forced else "")
        if self.level < len(self._costs) - 1:
            if self._forced_reason and t_ns - self._changed_ns >= FORCED_STEP_NS:
                return self._step_down(t_ns, self.level + 1, self._forced_reason)
            now_ms = self.predict_ms(self.level)
            if now_ms > self._budget_ms:
                return self._step_down(
                    t_ns,
                    self._best_fitting_level(self.level + 1, STEP_DOWN_SHARE),
                    f"p99 is about to be {now_ms:.0f} ms, {self._budget_ms:g} allowed",
                )
            if self._misses > MISSES_ALLOWED:
                fitting = self._best_fitting_level(self.level + 1, STEP_DOWN_SHARE)
                return self._step_down(t_ns, fitting, "too many pictures were late")
        if self.level > 0 and not self._forced_reason and self._may_step_up(t_ns):
            better = self._best_fitting_level(0, STEP_UP_SHARE)
            if better < self.level:
                return self._step_up(t_ns, better)
        return None

    def _advance_time(self, t_ns: int) -> int:
        """Nanoseconds since the picture before. A clock that went back starts all waiting anew:
        nothing then waits for longer than once more."""
        if self._newest_ns is None:
            self._newest_ns = self._changed_ns = t_ns
        elapsed_ns = t_ns - self._newest_ns
        if elapsed_ns < 0:
            self._changed_ns = t_ns
            self._cool_until_ns = min(self._cool_until_ns, t_ns + COOL_DOWN_NS)
            self._stepped_up_ns = None
            elapsed_ns = 0
        self._misses *= math.exp(-elapsed_ns / MISSES_TIME_CONSTANT_NS)
        self._newest_ns = t_ns
        return elapsed_ns

    def _read_board(self, t_ns: int, board: BoardStatus) -> str:
        """Why a step down is due before any latency shows it; empty when it is not."""
        # Others may wait for the processor, or it may be busy with others and only we wait.
        self._pressure = max(board.cpu_pressure or 0.0, board.cpu_percent / 100)
        if self._stepped_down and t_ns - self._changed_ns < PRESSURE_SETTLE_NS:
            self._pressure_at_step_down = max(self._pressure_at_step_down, self._pressure)
        # A counter that went back belongs to a driver that was loaded again.
        known, events = self._throttle_events, board.throttle_events
        more = any(count > known.get(cause, count) for cause, count in events.items())
        known.update(events)
        if more:
            self._cool_until_ns = t_ns + COOL_DOWN_NS
            if self.predict_ms(self.level) > THROTTLED_SHARE * self._budget_ms:
                return "the board throttles itself"
        if board.memory_available_mb < MIN_MEMORY_MB:
            return f"{board.memory_available_mb:.0f} MB of memory left"
        if (board.memory_pressure or 0.0) > MAX_MEMORY_PRESSURE:
            return "programs wait for memory"
        return ""

    def _best_fitting_level(self, first: int, share: float) -> int:
        """The best level from `first` on that uses at most `share` of the budget, else the last."""
        for level in range(first, len(self._costs)):
            if self.predict_ms(level) <= share * self._budget_ms:
                return level
        return len(self._costs) - 1

    def _step_down(self, t_ns: int, level: int, reason: str) -> LevelSwitch:
        climb = self._stepped_up_ns
        failed = climb is not None and t_ns - climb < FAILED_STEP_UP_NS
        if failed:
            self._hold_ns = min(2 * self._hold_ns, MAX_HOLD_NS)
        else:
            self._hold_ns = max(self._hold_ns // 2, HOLD_NS)
        self._pressure_at_step_down = self._pressure
        self._stepped_down = True
        return self._change(t_ns, level, reason)

    def _step_up(self, t_ns: int, level: int) -> LevelSwitch:
        self._stepped_up_ns = t_ns
        self._stepped_down = False
        return self._change(
            t_ns, level, f"p99 would be {self.predict_ms(level):.0f} ms of {self._budget_ms:g}"
        )

    def _change(self, t_ns: int, level: int, reason: str) -> LevelSwitch:
        self.level = level
        self._forced_reason = ""
        self._changed_ns = t_ns
        self._misses = 0.0
        return LevelSwitch(level, reason)

    def _may_step_up(self, t_ns: int) -> bool:
        since_change_ns = t_ns - self._changed_ns
        if since_change_ns < HOLD_NS or t_ns < self._cool_until_ns:
            return False
        if self._pressure_at_step_down < MIN_PRESSURE:
            return since_change_ns >= self._hold_ns
        if self._pressure < RELIEF_SHARE * self._pressure_at_step_down:
            return True
        return since_change_ns >= max(PRESSURE_HOLD_NS, self._hold_ns)
