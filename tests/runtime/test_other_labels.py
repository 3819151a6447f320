"""Bundles of other labels through the whole program: run, outputs, benchmark, doctor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.runtime.bench import __main__ as bench
from emotion_edge.runtime.bench import micro
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.doctor import run_doctor
from emotion_edge.runtime.replay import run_replay
from emotion_edge.runtime.sinks import open_sinks
from emotion_edge.runtime.sinks.console import PURPOSE

from ..engines.conftest import add_fusion, write_bundle_folder

THREE = ("calm", "tense", "face")
"""One is called as a modality."""
TWELVE = tuple(f"state {n}" for n in range(12))


@pytest.mark.parametrize("labels", [THREE, TWELVE], ids=len)
def test_other_labels(
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    labels: tuple[str, ...],
) -> None:
    """Every estimate has the bundle's labels in their order, and every command takes the bundle."""
    bundle = add_fusion(write_bundle_folder(tmp_path / "bundle", labels)).path
    out = tmp_path / "out.jsonl"
    config = configure("demo", f"bundle='{bundle}'", "engines.name=onnx")
    with open_sinks([f"jsonl:{out}", "console"], config, replay=True) as sinks:
        run_replay(config, sinks.publishers, 1, observers=sinks.observers)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 30
    for line in lines:
        assert tuple(line["probabilities"]) == labels
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert line["label"] in (None, max(line["probabilities"], key=line["probabilities"].get))
    assert tuple(lines[-1]["voice"]) == labels
    assert capfd.readouterr().out.startswith(PURPOSE)
    assert run_doctor(bundle, config) in (0, 1)
    assert f"ok    bundle      {bundle} (tiny)" in capfd.readouterr().out
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(micro, "WARM_UP_NS", 0)
    report = tmp_path / "bench.json"
    options = ["--source", "demo", "--seconds", "0.4", "--json", str(report)]
    assert bench.main([*options, "--bundle", str(bundle), "--set", "engines.name=onnx"]) == 0
    assert "fusion fp32" in json.loads(report.read_text())["models"]
