"""Micro-benchmarks of networks: which, how often, and with which figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import load_bundle
from emotion_edge.runtime.bench import micro
from emotion_edge.runtime.bench.micro import time_models, time_network
from emotion_edge.runtime.config import load_config

from ...engines.conftest import write_bundle_folder
from ...engines.speech_network import add_voice_activity

MS = 1_000_000


class Engine:
    """An engine whose inference takes longer each time, on a clock of its own."""

    def __init__(self, first_ms: float) -> None:
        self.first_ms = first_ms
        self.runs = 0
        self.now_ms = 0.0

    def infer(self, feed: object) -> Any:
        self.now_ms += self.first_ms + self.runs / 1000
        self.runs += 1

    def now_ns(self) -> int:
        return round(self.now_ms * MS)


def test_quick_network() -> None:
    """It runs 200 times after 200 ms of warm-up, which do not count."""
    engine: Any = Engine(1.0)
    figures = time_network(engine, {}, engine.now_ns)
    warm_up = engine.runs - 200
    assert 150 < warm_up < 200
    assert figures["runs"] == 200
    assert figures["min"] == pytest.approx(1 + warm_up / 1000)
    assert figures["max"] == pytest.approx(1 + (warm_up + 199) / 1000)
    assert figures["p50"] == pytest.approx(1 + (warm_up + 99) / 1000)
    assert figures["mean"] == pytest.approx(1 + (warm_up + 99.5) / 1000, abs=1e-3)


def test_slow_network_runs_for_a_second() -> None:
    engine: Any = Engine(300.0)
    assert time_network(engine, {}, engine.now_ns)["runs"] == 4


def test_following_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bundle that has the network: the time of one step."""
    monkeypatch.setattr(micro, "WARM_UP_NS", 0)
    monkeypatch.setattr(micro, "MAX_RUNS", 3)
    bundle = add_voice_activity(write_bundle_folder(tmp_path / "tiny"))
    config = load_config(None, [f"bundle='{bundle.path}'", "engines.name=onnx"])
    models = time_models(config, bundle)
    assert models["speech in 30 ms of audio"]["runs"] == 3


def test_every_network_once(null_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The face at each size of a level, the voice once, each with all figures."""
    monkeypatch.setattr(micro, "WARM_UP_NS", 0)
    monkeypatch.setattr(micro, "MAX_RUNS", 3)
    config = load_config(None, [f"bundle='{null_bundle}'", "engines.name=null"])
    models = time_models(config, load_bundle(null_bundle))
    assert list(models) == ["face 64 px fp32", "voice fp32", "face 48 px fp32"]
    figures = models["face 64 px fp32"]
    assert list(figures) == ["min", "max", "mean", "p50", "p90", "p95", "p99", "runs"]
    assert 0 <= figures["min"] <= figures["p50"] <= figures["max"]
    assert figures["runs"] == 3
