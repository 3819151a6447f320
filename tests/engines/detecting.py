"""A face detector made by hand: its one face lies at the brightest pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SIDE_PX = 48.0
EYES = (-0.2, -0.1, 0.2, -0.1)
"""Offsets x, y of both eyes from the centre, in sides."""
FLOAT = onnx.TensorProto.FLOAT


def write_spot_detector(
    path: Path, *, gain: float = 1 / 255, output: str = "scores", landmarks: int = 10
) -> Path:
    """Write the network. The score is the brightest luma times `gain`. `output` names the first
    output, `landmarks` is the length of the last."""
    offsets = np.zeros((1, landmarks), np.float32)
    places = [*EYES, 0.0, 0.05, -0.15, 0.25, 0.15, 0.25]
    offsets[0, : min(landmarks, 10)] = np.array(places, np.float32)[:landmarks] * SIDE_PX
    constants = {
        "gain": np.array([gain], np.float32),
        "side": np.array([[SIDE_PX]], np.float32),
        "offsets": offsets,
        "flat": np.array([1]),
        "row": np.array([1, 1]),
        "times": np.array([1, -(-landmarks // 2)]),
        "zero": np.array([0]),
        "length": np.array([landmarks]),
        "axis": np.array([1]),
    }
    make = helper.make_node
    nodes = [
        make("ReduceMax", ["image"], ["max"], axes=[1, 2, 3], keepdims=0),
        make("Mul", ["max", "gain"], [output]),
        make("ReduceMax", ["image"], ["columns"], axes=[1, 2], keepdims=0),
        make("ReduceMax", ["image"], ["rows"], axes=[1, 3], keepdims=0),
        make("ArgMax", ["columns"], ["column"], axis=1, keepdims=1),
        make("ArgMax", ["rows"], ["line"], axis=1, keepdims=1),
        make("Cast", ["column"], ["x"], to=FLOAT),
        make("Cast", ["line"], ["y"], to=FLOAT),
        make("Concat", ["x", "y", "side"], ["boxes"], axis=1),
        make("Concat", ["x", "y"], ["centre"], axis=1),
        make("Tile", ["centre", "times"], ["many"]),
        make("Slice", ["many", "zero", "length", "axis"], ["centres"]),
        make("Add", ["centres", "offsets"], ["landmarks"]),
    ]
    shapes = {output: [1], "boxes": [1, 3], "landmarks": [1, landmarks]}
    graph = helper.make_graph(
        nodes,
        "spot",
        [helper.make_tensor_value_info("image", FLOAT, [1, 1, "height", "width"])],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
