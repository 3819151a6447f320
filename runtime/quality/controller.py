"""The quality controller: chooses the level that holds the latency budget.

In: the waiting and working time of each frame, and the sensors of the board. Out: a `LevelSwitch`.
It has no clock and no device. The latency at a level is predicted as

    waiting + slow-down x the level's cost on this machine when nothing else runs

A Kalman filter estimates waiting, another one slow-down. Each adapts its noise to its own errors,
as in Wan et al., "ALERT: Accurate Learning for Energy and Timeliness" (USENIX ATC 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..board import BoardStatus

P99_SIGMAS = 2.33
NOISE_TIME_CONSTANT_NS = 200_000_000
"""Time constant of the noise estimates. At 30 frames per second..."""
MIN_FORGETTING_FACTOR = 0.7
"""... and at 8, those of the lowest level, a change of load is detected within a second."""
STEP_DOWN_SHARE = 0.9
"""Largest predicted share of the budget of a level to step down to..."""
STEP_UP_SHARE = 0.7
"""... and to step up to."""
MISSES_ALLOWED = 2.5
MISSES_TIME_CONSTANT_NS = 10_000_000_000
"""More than `MISSES_ALLOWED` in about this long (1 % of 30 frames per second) force a step down,
whatever the prediction."""
HOLD_NS = 1_500_000_000
"""Shortest time from a switch to a step up. It doubles with each failed step up..."""
MAX_HOLD_NS = 600_000_000_000
"""... to at most this."""
FAILED_STEP_UP_NS = 60_000_000_000
"""A step up has failed if a step down follows within this time."""
PRESSURE_HOLD_NS = 30_000_000_000
"""Shortest time to a step up while the CPU pressure is as high as at the step down: a light level
can hold the budget beside a load where a heavy one cannot."""
RELIEF_SHARE = 0.6
"""The load has gone when the pressure is below this share of that at the step down."""
MIN_PRESSURE = 0.2
"""Smallest pressure that counts as load."""
PRESSURE_SETTLE_NS = 1_500_000_000
"""Sensor values this soon after a step down belong to it, since they are read twice a second."""
FACES_HOLD_NS = 2_000_000_000
"""Faces count towards the prediction for this long after they were seen."""
COOL_DOWN_NS = 30_000_000_000
"""Shortest time from the board's throttling to a step up."""
THROTTLED_SHARE = 0.5
"""Share of the budget that a level may use on a board that throttles, that is halves its clocks."""
FORCED_STEP_NS = 5_000_000_000
"""Shortest time between two steps down that the board's state forces."""
MIN_MEMORY_MB = 100.0
MAX_MEMORY_PRESSURE = 0.1


@dataclass(frozen=True, slots=True)
class LevelCost:
    """Cost of a frame at one level: its working time in ms when nothing else runs."""

    name: str
    base_ms: float
    """Preprocessing, fusion and all else that each frame needs."""
    face_ms: float
    """Face network on the main face."""
    voice_ms: float
    """Voice network and its input, for a frame on which it is due; 0 for a level without voice."""
    more_face_ms: float = 0.0
    """All that each face after the main one needs."""
    max_faces: int = 1
    """Most faces that the face network runs on."""

    def expected_ms(self, faces: int, voice: bool) -> float:
        """Return the cost of a frame with `faces` faces, with the voice network or without."""
        faces = min(faces, self.max_faces)
        more_ms = max(0, faces - 1) * self.more_face_ms
        return self.base_ms + min(1, faces) * self.face_ms + more_ms + voice * self.voice_ms

    def full_ms(self, faces: int = 1) -> float:
        """Return the cost of a frame with at least one face on which the voice is due."""
        return self.expected_ms(max(1, faces), voice=True)


@dataclass(frozen=True, slots=True)
class LevelSwitch:
    """A change of level."""

    level: int
    """Index of the new level."""
    reason: str


class _KalmanFilter:
    """Estimates mean and variance of a noisy quantity that drifts."""

    CLIP_SIGMAS = 6.0
    """Larger errors are clipped: one outlier has little effect, a few in a row move the mean."""

    def __init__(self, mean: float, scatter: float) -> None:
        self.mean = mean
        self._min_noise = scatter**2
        self._measurement_noise = self._min_noise
        self._process_noise = self._min_noise / 10
        self._mean_variance = self._min_noise

    def update(self, value: float, forgetting_factor: float) -> None:
        """Update with one value. `forgetting_factor` is the weight of the previous noise."""
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
        """Variance of the next value."""
        return self._mean_variance + self._measurement_noise


class QualityController:
    """Controls the level of one stream of frames. One thread calls `observe`, another may call
    `note_board`."""

    def __init__(self, costs: Sequence[LevelCost], budget_ms: float) -> None:
        """`costs` of all levels, best first. Raises ValueError for none."""
        if not costs:
            raise ValueError("costs: at least one level is required")
        self.level = 0
        self._costs = tuple(costs)
        self._budget_ms = budget_ms
        self._slow_down = _KalmanFilter(1.0, 0.1)
        self._wait = _KalmanFilter(1.0, 0.5)
        self._faces = 1
        """Most faces in the last frames, whether the level allows as many or not."""
        self._faces_ns = 0
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
        """Whether even the lowest level is predicted to miss the budget."""
        return self.level == len(self._costs) - 1 and self.predict_ms(self.level) > self._budget_ms

    def predict_ms(self, level: int) -> float:
        """Return the predicted 99th percentile of the latency at `level`."""
        cost = self._costs[level].full_ms(self._faces)
        spread = math.sqrt(self._wait.variance + cost**2 * self._slow_down.variance)
        return self._wait.mean + cost * self._slow_down.mean + P99_SIGMAS * spread

    def note_board(self, board: BoardStatus) -> None:
        """Store the newest sensor values for the next `observe`; about twice a second."""
        self._board = board

    def observe(
        self,
        t_ns: int,
        wait_ms: float,
        work_ms: float,
        faces: int,
        voice: bool,
        present: int = 0,
    ) -> LevelSwitch | None:
        """Process one frame at the current level: its waiting and working time, on how many `faces`
        the face network ran, whether the voice network did, and how many faces were `present`,
        also those that the level leaves out. `t_ns` is now. Return the switch if `level` has
        changed."""
        if not (0 <= wait_ms < math.inf and 0 <= work_ms < math.inf):
            return None
        elapsed_ns = self._advance_time(t_ns)
        forgetting_factor = max(
            MIN_FORGETTING_FACTOR, math.exp(-elapsed_ns / NOISE_TIME_CONSTANT_NS)
        )
        cost = self._costs[self.level]
        self._count_faces(t_ns, max(1, faces, present))
        expected = cost.expected_ms(faces, voice)
        # Without a network the expected time is too small a divisor.
        divisor_ms = expected if faces or voice else cost.full_ms()
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
                    f"predicted p99 is {now_ms:.0f} ms, the budget {self._budget_ms:g} ms",
                )
            if self._misses > MISSES_ALLOWED:
                fitting = self._best_fitting_level(self.level + 1, STEP_DOWN_SHARE)
                return self._step_down(t_ns, fitting, "too many frames missed the budget")
        if self.level > 0 and not self._forced_reason and self._may_step_up(t_ns):
            better = self._best_fitting_level(0, STEP_UP_SHARE)
            if better < self.level:
                return self._step_up(t_ns, better)
        return None

    def _count_faces(self, t_ns: int, faces: int) -> None:
        if faces >= self._faces or not 0 <= t_ns - self._faces_ns <= FACES_HOLD_NS:
            self._faces, self._faces_ns = faces, t_ns

    def _advance_time(self, t_ns: int) -> int:
        """Return the nanoseconds since the previous frame. A clock that goes back restarts the hold
        times, so that none lasts longer than its full length from now."""
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
        """Return the reason for a step down that latency does not show yet; "" for none."""
        # Pressure shows that processes wait. Utilisation shows load that makes only this one wait.
        self._pressure = max(board.cpu_pressure or 0.0, board.cpu_percent / 100)
        if self._stepped_down and t_ns - self._changed_ns < PRESSURE_SETTLE_NS:
            self._pressure_at_step_down = max(self._pressure_at_step_down, self._pressure)
        # A counter goes back when its driver is reloaded.
        known, events = self._throttle_events, board.throttle_events
        more = any(count > known.get(cause, count) for cause, count in events.items())
        known.update(events)
        if more:
            self._cool_until_ns = t_ns + COOL_DOWN_NS
            if self.predict_ms(self.level) > THROTTLED_SHARE * self._budget_ms:
                return "the board throttles its clocks"
        if board.memory_available_mb < MIN_MEMORY_MB:
            return f"only {board.memory_available_mb:.0f} MB of memory are available"
        if (board.memory_pressure or 0.0) > MAX_MEMORY_PRESSURE:
            return "memory pressure"
        return ""

    def _best_fitting_level(self, first: int, share: float) -> int:
        """Return the best level from `first` on whose prediction is within `share` of the budget,
        else the last level."""
        for level in range(first, len(self._costs)):
            if self.predict_ms(level) <= share * self._budget_ms:
                return level
        return len(self._costs) - 1

    def _step_down(self, t_ns: int, level: int, reason: str) -> LevelSwitch:
        stepped_up_ns = self._stepped_up_ns
        failed = stepped_up_ns is not None and t_ns - stepped_up_ns < FAILED_STEP_UP_NS
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
        predicted_ms = self.predict_ms(level)
        reason = f"predicted p99 is {predicted_ms:.0f} ms, the budget {self._budget_ms:g} ms"
        return self._change(t_ns, level, reason)

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
