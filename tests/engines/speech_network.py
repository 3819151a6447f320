"""A voice-activity network for the tests: it takes loud audio for speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from emotion_edge.engines.bundles import Bundle, VoiceActivityEntry, write_manifest
from emotion_edge.engines.golden import golden_mel
from emotion_edge.engines.voice_activity import VoiceActivityDetector

COLUMNS = 64
NUM_MELS = 64
NEWEST = 10
"""Columns that it looks at: 100 ms."""


def write_speech_network(path: Path, slope: float = 4.0, columns: int = COLUMNS) -> Path:
    """Write a network whose "speech" is sigmoid(slope * mean of the newest columns)."""
    constants = {
        "from": np.array([columns - NEWEST], np.int64),
        "to": np.array([columns], np.int64),
        "axis": np.array([2], np.int64),
        "slope": np.array(slope, np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["mel", "from", "to", "axis"], ["newest"]),
        helper.make_node("ReduceMean", ["newest"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["speech"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, NUM_MELS, columns])],
        [helper.make_tensor_value_info("speech", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def add_voice_activity(bundle: Bundle, **fields: Any) -> Bundle:
    """Add such a network to a bundle; `fields` replace those of its entry."""
    path = write_speech_network(bundle.path / "voice_activity.onnx")
    with VoiceActivityDetector(path) as detector:
        golden = detector.probability(golden_mel(bundle.manifest.mel, COLUMNS))
    entry = VoiceActivityEntry(path.name, COLUMNS, 0.6, golden)
    entry = msgspec.structs.replace(entry, **fields)
    manifest = bundle.manifest
    written = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del written["format"], written["files"]
    others = set(manifest.files) - {network.file for network in manifest.networks.values()}
    return write_manifest(bundle.path, {**written, "voice_activity": entry}, sorted(others))
