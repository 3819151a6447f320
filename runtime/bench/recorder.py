"""Recorder of a run: a sink whose memory is allocated before the run begins.

In: estimates, and the capture times of frames. Out: a `Recording` at the end.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages import Estimate
from ..perception import FrameRateLimiter
from ..session import Runtime
from ..telemetry import STAGES, read_stages

WARM_UP_S = 1.0
"""Time before the first phase, under its conditions. It warms caches: engines are warm already."""

_ROW = Struct(f"<qq3Bd{len(STAGES)}f")
ROW = np.dtype(
    [
        ("t_ns", "<i8"),
        ("index", "<i8"),
        ("face", "u1"),
        ("voice", "u1"),
        ("level", "u1"),
        ("latency_us", "<f8"),
        ("stages_us", "<f4", (len(STAGES),)),
    ]
)
"""One estimate, as `_ROW` packs it. `level` counts from the best, `stages_us` is in the order of
`STAGES`, with "publish" of the previous estimate."""
_NO_LEVEL = 255


@dataclass(frozen=True, slots=True)
class Recording:
    """One run after its warm-up, or its newest part where the capacity was too small."""

    start_ns: int
    """The end of the warm-up, CLOCK_MONOTONIC."""
    seconds: float
    rows: NDArray[Any]
    """Estimates, of type `ROW`, in their order."""
    arrived_ns: NDArray[np.int64]
    """Capture times of all frames."""
    accepted: NDArray[np.bool_]
    """For each frame, whether the level's rate accepted it."""
    levels: tuple[str, ...]
    """Names, best first."""
    misses_by_cause: Mapping[str, int]
    lost: int
    """Frames before the last estimate without an estimate that were neither skipped nor dropped.
    Anything but 0 is a bug of the program."""

    @property
    def frame_rows(self) -> NDArray[Any]:
        """The rows of frames. All rows where there was no frame at all."""
        if not self.arrived_ns.size:
            return self.rows
        return self.rows[np.isin(self.rows["t_ns"], self.arrived_ns)]


class RecordingRateLimiter(FrameRateLimiter):
    """A rate limiter that records each frame's capture time and whether it was accepted."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.count = 0
        self._capacity = capacity
        self._times = array("q", bytes(8 * capacity))
        self._accepted = bytearray(bytes(capacity))

    def accepts(self, t_ns: int) -> bool:
        accepted = super().accepts(t_ns)
        at = self.count % self._capacity
        self._times[at] = t_ns
        self._accepted[at] = accepted
        self.count += 1
        return accepted

    def read(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the newest `capacity` capture times and whether accepted, oldest first."""
        times = np.frombuffer(self._times, np.int64)
        accepted = np.frombuffer(self._accepted, np.bool_)
        return _unroll(times, self.count), _unroll(accepted, self.count)


class Recorder:
    """A sink that stores the newest `capacity` estimates."""

    def __init__(self, capacity: int) -> None:
        self.started = threading.Event()
        """Set at the first estimate."""
        self.first_at_s = 0.0
        """Time of the first estimate, in seconds of `time.time`."""
        self._capacity = capacity
        # A copy is written: pages that are only reserved would look like growth later on.
        self._rows = bytearray(bytes(_ROW.size * capacity))
        self._count = 0
        self._first_ns = 0
        self._measured = False
        self._arrivals = RecordingRateLimiter(capacity)
        self._levels: dict[str, int] = {}
        self._runtime: Runtime | None = None
        self._causes_before: Mapping[str, int] = {}

    @property
    def start_ns(self) -> int:
        """End of the warm-up. Valid once `started` is set."""
        return self._first_ns + round(WARM_UP_S * 1e9)

    def attach(self, runtime: Runtime) -> None:
        """Record arriving frames and the names of levels. Call it before the first frame."""
        runtime.rate_limiter = self._arrivals
        self._arrivals.set_rate(runtime.level.camera_fps)
        self._levels = {level.level.name: n for n, level in enumerate(runtime.levels)}
        self._runtime = runtime

    def publish(self, estimate: Estimate) -> None:
        t_ns = estimate.t_ns
        if not self._measured:
            self._begin(t_ns)
        _ROW.pack_into(
            self._rows,
            self._count % self._capacity * _ROW.size,
            t_ns,
            estimate.index,
            estimate.face is not None,
            estimate.voice is not None,
            self._levels.get(estimate.level, _NO_LEVEL),
            estimate.latency_us,
            *read_stages(estimate.stages_us),
        )
        self._count += 1

    def close(self) -> None: ...

    def _begin(self, t_ns: int) -> None:
        """Note the first estimate, and the misses so far at the end of the warm-up."""
        if not self._count:
            self._first_ns = t_ns
            self.first_at_s = time.time()
            self.started.set()
        if t_ns >= self.start_ns:
            self._measured = True
            if self._runtime is not None:
                self._causes_before = dict(self._runtime.latency.misses_by_cause)

    def finish(self, seconds: float) -> Recording:
        """Return the recording of the `seconds` after the warm-up. Call it after the run."""
        rows = _unroll(np.frombuffer(self._rows, ROW), self._count)
        times, accepted = self._arrivals.read()
        causes: Mapping[str, int] = {}
        if self._runtime is not None:
            after = self._runtime.latency.misses_by_cause
            causes = {name: n - self._causes_before.get(name, 0) for name, n in after.items()}
        start_ns, end_ns = self.start_ns, self.start_ns + round(seconds * 1e9)
        if self._arrivals.count > times.size:  # nothing is known before the oldest frame
            start_ns = max(start_ns, int(times[0]))
        if self._count > rows.size:
            start_ns = max(start_ns, int(rows["t_ns"][0]))
        of_rows = (rows["t_ns"] >= start_ns) & (rows["t_ns"] < end_ns)
        of_times = (times >= start_ns) & (times < end_ns)
        return Recording(
            start_ns,
            (end_ns - start_ns) / 1e9,
            rows[of_rows],
            times[of_times],
            accepted[of_times],
            tuple(self._levels),
            causes,
            self._count_lost(rows, times, accepted),
        )

    def _count_lost(
        self, rows: NDArray[Any], times: NDArray[np.int64], accepted: NDArray[np.bool_]
    ) -> int:
        if self._runtime is None or not rows.size or not times.size:
            return 0
        later = times > rows["t_ns"][-1]  # in process when the run ended
        estimated = self._count - int((~np.isin(rows["t_ns"], times)).sum())
        unexplained = self._arrivals.count - int(later.sum()) - estimated
        skipped = self._arrivals.skipped - int((later & ~accepted).sum())
        return unexplained - skipped - self._runtime.dropped_frames


def _unroll(ring: NDArray[Any], count: int) -> NDArray[Any]:
    """Return a copy of the filled part of a ring after `count` writes, oldest first."""
    size = ring.shape[0]
    return ring[:count].copy() if count <= size else np.roll(ring, -(count % size), axis=0)
