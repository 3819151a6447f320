"""Networks that a bundle may hold and nobody wants: they never end, or ask for all memory."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
MASK = helper.make_tensor_value_info("mask", FLOAT, ["batch", 300])
VOICE_INPUTS = [helper.make_tensor_value_info("mel", FLOAT, ["batch", 64, 300]), MASK]
IMAGE_INPUTS = [helper.make_tensor_value_info("image", FLOAT, ["batch", 3, "height", "width"])]
LUMA_INPUTS = [helper.make_tensor_value_info("image", FLOAT, [1, 1, "height", "width"])]
MEL_INPUTS = [helper.make_tensor_value_info("mel", FLOAT, [1, 64, 64])]
ENDLESS_TURNS = 10**15


def make_endless(inputs: list[onnx.ValueInfoProto], outputs: dict[str, list[int | str]]) -> bytes:
    """Return a network that counts to `ENDLESS_TURNS` before it answers."""
    x = inputs[0].name
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Add", ["sum", "sum"], ["more"]),
        ],
        "turn",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("sum", FLOAT, []),
        ],
        [info("goes", TensorProto.BOOL, []), info("more", FLOAT, [])],
    )
    nodes = [
        helper.make_node("ReduceMean", [x], ["mean"], keepdims=0),
        helper.make_node("Loop", ["turns", "true", "mean"], ["total"], body=body),
        *(helper.make_node("Expand", ["total", f"{name}_shape"], [name]) for name in outputs),
    ]
    return _make_model(
        nodes, inputs, outputs, {"turns": np.array(ENDLESS_TURNS), "true": np.array(True)}
    )


def make_greedy(
    inputs: list[onnx.ValueInfoProto], outputs: dict[str, list[int | str]], numbers: int
) -> bytes:
    """Return a network that fills `numbers` numbers on the way to its answer."""
    nodes = [
        helper.make_node("ReduceMean", [inputs[0].name], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "numbers"], ["all"]),
        helper.make_node("ReduceMean", ["all"], ["total"], keepdims=0),
        *(helper.make_node("Expand", ["total", f"{name}_shape"], [name]) for name in outputs),
    ]
    return _make_model(nodes, inputs, outputs, {"numbers": np.array([numbers])})


def _make_model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: dict[str, list[int | str]],
    constants: dict[str, NDArray[np.int64] | NDArray[np.bool_]],
) -> bytes:
    shapes = {
        f"{name}_shape": np.array([1 if isinstance(size, str) else size for size in shape])
        for name, shape in outputs.items()
    }
    graph = helper.make_graph(
        nodes,
        "hostile",
        inputs,
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in {**constants, **shapes}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
