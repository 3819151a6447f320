"""What a playback left out because it was too late: a fault while it lasts, the sum at the end."""

from __future__ import annotations

import logging
import threading

from ..clock import Clock
from ..faults import FaultLog

_LOG = logging.getLogger(__name__)

_NOTED_NS = 5_000_000_000
"""How long after it left something out a playback counts as too slow."""


class Losses:
    """What was left out of one playback because it was too late."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.frames = 0
        self.audio_s = 0.0
        self._clock = clock
        self._name = name
        self._lock = threading.Lock()
        self._newest_ns: int | None = None
        self._faults = FaultLog(_LOG, f"{name} is played in time again", clock)

    @property
    def fault(self) -> str:
        return self._faults.fault

    def note(self, frames: int = 0, audio_s: float = 0.0) -> None:
        """Record what was left out before an item; nothing, if there was nothing."""
        with self._lock:
            now_ns = self._clock.now_ns()
            if frames or audio_s:
                self._newest_ns = now_ns
                self.frames += frames
                self.audio_s += audio_s
                fault = f"{self._name}: this machine decodes it too slowly and leaves frames out"
                self._faults.log_transition(fault)
            elif self._newest_ns is not None and now_ns - self._newest_ns > _NOTED_NS:
                self._newest_ns = None
                self._faults.log_transition("")

    def log_sum(self) -> None:
        with self._lock:
            if self.frames or self.audio_s:
                text = "%s: %d frames and %.1f s of audio came too late and were left out"
                _LOG.warning(text, self._name, self.frames, self.audio_s)
                self.frames, self.audio_s = 0, 0.0
