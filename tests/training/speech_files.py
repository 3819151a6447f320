"""A teacher for the tests, which takes loud audio for speech, and recordings to mark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .wav_files import write_wav

RATE_HZ = 16_000


def write_teacher(path: Path) -> Path:
    """Write a network with the inputs of Silero's, whose output is near 1 where the audio of a
    chunk exceeds 0.2."""
    constants = {"level": np.array(0.2, np.float32), "slope": np.array(100, np.float32)}
    nodes = [
        helper.make_node("Abs", ["input"], ["magnitude"]),
        helper.make_node("ReduceMax", ["magnitude"], ["peak"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["peak", "level"], ["excess"]),
        helper.make_node("Mul", ["excess", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["output"]),
        helper.make_node("Identity", ["state"], ["stateN"]),
        helper.make_node("Identity", ["sr"], ["rate"]),
    ]
    floats, state = TensorProto.FLOAT, [2, "batch", 128]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [
            helper.make_tensor_value_info("input", floats, ["batch", "samples"]),
            helper.make_tensor_value_info("state", floats, state),
            helper.make_tensor_value_info("sr", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("output", floats, ["batch", 1]),
            helper.make_tensor_value_info("stateN", floats, state),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def make_recording(
    before_s: float = 1.0, tone_s: float = 1.0, after_s: float = 1.0, hertz: float = 300.0
) -> NDArray[np.float32]:
    """Return silence, a tone, silence."""
    t = np.arange(round(tone_s * RATE_HZ)) / RATE_HZ
    tone = 0.4 * np.sin(2 * np.pi * hertz * t)
    silence = [np.zeros(round(s * RATE_HZ)) for s in (before_s, after_s)]
    return np.concatenate([silence[0], tone, silence[1]]).astype(np.float32)


def write_recording(path: Path, audio: NDArray[np.float32]) -> Path:
    """Write audio as a WAV file."""
    return write_wav(path, (audio * 32_000).astype(np.int16))
