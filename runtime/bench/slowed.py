"""A slower processor where none can be had: every run of a network is made to last longer.

In: a run's networks. Out: the same ones, which wait before they hand over their answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from ...engines.base import Arrays, Engine, Feed
from ..session import Runtime


class SimulatedSlowdown:
    """Networks that take as long as they would with a share of one core."""

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self.factor = 1.0

    def attach(self, runtime: Runtime) -> None:
        slowed: dict[int, Mapping[str, Engine]] = {}  # levels of one precision share their networks
        for one in runtime.levels:
            engines = {name: _DelayedEngine(engine, self) for name, engine in one.engines.items()}
            slowed.setdefault(id(one.engines), engines)
        runtime.levels = tuple(
            replace(one, engines=slowed[id(one.engines)]) for one in runtime.levels
        )
        runtime.use_level(0)

    def begin(self) -> None:
        self.factor = max(1.0, 1 / self._cores)

    def end(self) -> None:
        self.factor = 1.0

    def describe(self) -> dict[str, object]:
        return {"by": "simulated", "quota_cores": self._cores}

    def __enter__(self) -> SimulatedSlowdown:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class _DelayedEngine:
    """An engine whose answers come `factor` times as late as they are ready."""

    def __init__(self, engine: Engine, share: SimulatedSlowdown) -> None:
        self._engine = engine
        self._share = share
        self.name, self.precision = engine.name, engine.precision
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def infer(self, feed: Feed) -> Arrays:
        begun = time.perf_counter()
        answer = self._engine.infer(feed)
        if self._share.factor > 1:
            time.sleep((time.perf_counter() - begun) * (self._share.factor - 1))
        return answer

    def warm_up(self, feed: Feed) -> None:
        self._engine.warm_up(feed)

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> _DelayedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
