"""A network whose duration a test controls, on a fake clock."""

from __future__ import annotations

from collections.abc import Callable

from emotion_edge.engines.base import Arrays, EngineError, Feed
from emotion_edge.engines.bundles.manifest import Manifest
from emotion_edge.engines.null import NullEngine
from emotion_edge.runtime.clock import FakeClock

MS = 1_000_000


class TimedEngine(NullEngine):
    """The null engine. `takes_ms` returns the duration of a run from the side of the face (0 for
    other networks) and the number of the run."""

    def __init__(
        self,
        manifest: Manifest,
        network: str,
        clock: FakeClock,
        takes_ms: Callable[[int, int], float],
    ) -> None:
        super().__init__(manifest, network)
        self.num_runs = 0
        self.fails = False
        """Whether `infer` raises EngineError."""
        self._is_face = network == "face"
        self._clock = clock
        self._takes_ms = takes_ms

    def infer(self, feed: Feed) -> Arrays:
        if self.fails:
            raise EngineError("gone")
        side = feed["image"].shape[-1] if self._is_face else 0
        self._clock.advance(round(self._takes_ms(side, self.num_runs) * MS))
        self.num_runs += 1
        return super().infer(feed)
