"""Networks made slower where the processor cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import Level
from emotion_edge.runtime.bench import throttle
from emotion_edge.runtime.bench.throttle import SimulatedSlowdown
from emotion_edge.runtime.quality.levels import RunLevel


class Engine:
    """Takes 10 ms of the clock that it is given."""

    name, precision = "fake", "fp32"
    inputs = outputs = ()

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.closed = False

    def infer(self, feed: Any) -> Any:
        self.clock.now_s += 0.01
        return {"logits": np.zeros((1, 7), np.float32)}

    def warm_up(self, feed: Any) -> None:
        self.infer(feed)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Clock:
    now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_inference_takes_as_long_as_the_share_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a core makes 40 ms of 10; before and after, it is as it was."""
    clock = Clock()
    monkeypatch.setattr(throttle, "time", clock)
    engine = Engine(clock)
    engines = {"face": engine}
    used: list[int] = []
    levels = [RunLevel(Level(name, 64), engines) for name in ("high", "low")]
    runtime: Any = SimpleNamespace(levels=levels, use_level=used.append)
    with SimulatedSlowdown(0.25) as networks:
        networks.attach(runtime)
        assert used == [0]
        first, second = runtime.levels
        assert first.engines is second.engines
        took = []
        for change in (networks.end, networks.begin, networks.end):
            change()
            before = clock.now_s
            assert list(first.engines["face"].infer({})) == ["logits"]
            took.append(round(clock.now_s - before, 6))
        assert took == [0.01, 0.04, 0.01]
        assert networks.describe() == {"by": "simulated", "quota_cores": 0.25}
        with first.engines["face"] as wrapped:
            assert (wrapped.name, wrapped.precision) == ("fake", "fp32")
    assert engine.closed


def test_more_than_one_core_does_not_speed_up() -> None:
    """One network runs on one core at a time, as far as this is concerned."""
    networks = SimulatedSlowdown(1.5)
    networks.begin()
    assert networks.factor == 1.0
