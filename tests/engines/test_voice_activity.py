"""The gate that decides from speech probabilities whether the voice may be used, and the network's
wrapper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.voice_activity import GateRule, SpeechGate, VoiceActivityDetector

STEP_NS = 30_000_000
MELS, COLUMNS = 8, 20


def feed(gate: SpeechGate, values: list[float], t_ns: int = 0, step_ns: int = STEP_NS) -> int:
    """Update the gate with one value per step -> the time of the last."""
    for value in values:
        t_ns += step_ns
        gate.update(value, t_ns)
    return t_ns


def test_opens_on_speech_and_gives_up_within_600_ms() -> None:
    """A word of half a second opens it; 0.6 s after the last speech it is closed."""
    gate = SpeechGate()
    t_ns = feed(gate, [1.0] * 16)
    assert gate.is_open
    assert gate.activity > 0.8
    feed(gate, [0.0] * 20, t_ns)
    assert not gate.is_open


def test_click_does_not_open() -> None:
    """Certain speech for a tenth of a second, such as a bark, every second."""
    gate = SpeechGate()
    opened = []
    t_ns = 0
    for _ in range(20):
        t_ns = feed(gate, [1.0] * 3, t_ns)
        opened.append(gate.is_open)
        t_ns = feed(gate, [0.0] * 30, t_ns)
    assert not any(opened)


def test_hysteresis() -> None:
    """Doubtful speech neither opens a closed gate nor closes an open one."""
    rule = GateRule()
    doubtful = [(rule.open_above + rule.close_below) / 2] * 200
    gate = SpeechGate(rule)
    t_ns = feed(gate, doubtful)
    assert not gate.is_open
    t_ns = feed(gate, [1.0] * 30, t_ns)
    feed(gate, doubtful, t_ns)
    assert gate.is_open


@pytest.mark.parametrize("step_ns", [10_000_000, 30_000_000, 90_000_000])
def test_independent_of_the_update_rate(step_ns: int) -> None:
    """The mean depends on time, not on how often it is updated."""
    gate = SpeechGate()
    gate.update(0.0, 0)
    feed(gate, [1.0] * (270_000_000 // step_ns), step_ns=step_ns)
    assert gate.activity == pytest.approx(1 - np.exp(-0.27 / gate.rule.memory_s))


def test_long_gap_counts_as_silence() -> None:
    """One value after a long gap cannot stand for the whole gap."""
    gate = SpeechGate()
    feed(gate, [1.0], t_ns=60_000_000_000)
    gate.update(1.0, 120_000_000_000)
    assert not gate.is_open
    t_ns = feed(gate, [1.0] * 30, t_ns=120_000_000_000)
    gate.update(0.0, t_ns + 5_000_000_000)
    assert not gate.is_open
    assert gate.activity < 0.01


def test_time_that_does_not_advance_changes_nothing() -> None:
    gate = SpeechGate()
    t_ns = feed(gate, [1.0] * 30)
    before = gate.activity
    assert gate.update(0.0, t_ns)
    assert gate.update(0.0, t_ns - STEP_NS)
    assert gate.activity == before


def test_reset_closes() -> None:
    gate = SpeechGate()
    feed(gate, [1.0] * 30)
    gate.reset()
    assert not gate.is_open
    assert gate.activity == 0.0
    feed(gate, [1.0] * 30, t_ns=0)  # a new stream may begin earlier
    assert gate.is_open


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-(10**9), 10**10)), max_size=50))
def test_activity_stays_a_probability(steps: list[tuple[float, int]]) -> None:
    """At any times."""
    gate = SpeechGate()
    t_ns = 0
    for value, elapsed_ns in steps:
        t_ns += elapsed_ns
        gate.update(value, t_ns)
        assert 0.0 <= gate.activity <= 1.0


def write_network(path: Path, name: str = "mel") -> Path:
    """Write a network whose output is the mean of its input."""
    shape = ["batch", MELS, COLUMNS]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", [name], ["speech"], axes=[1, 2], keepdims=0)],
        "voice_activity",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("speech", TensorProto.FLOAT, ["batch"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_detector_reads_the_newest_columns(tmp_path: Path) -> None:
    mel = np.zeros((1, MELS, 50), np.float32)
    mel[..., -COLUMNS:] = 0.25
    with VoiceActivityDetector(write_network(tmp_path / "v.onnx")) as detector:
        assert (detector.num_mels, detector.num_columns) == (MELS, COLUMNS)
        assert detector.probability(mel) == pytest.approx(0.25)
        mel[..., -COLUMNS:] = 0.75
        assert detector.probability(mel) == pytest.approx(0.75)


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_detector_refuses_a_broken_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"v\.onnx"):
        VoiceActivityDetector(path)


def test_detector_refuses_another_network(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"v\.onnx.*image"):
        VoiceActivityDetector(write_network(tmp_path / "v.onnx", "image"))
