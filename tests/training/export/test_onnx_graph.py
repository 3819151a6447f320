"""Graphs made ready for the device: smaller, with known shapes, and of the same answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from emotion_edge.training.export.onnx import (
    MIN_FP16_VALUES,
    finish_graph,
    infer_shapes,
    simplify,
    store_weights_as_fp16,
)

make_node, make_info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
FLOAT = onnx.TensorProto.FLOAT
Constants = dict[str, np.ndarray[Any, Any]]


def make_model(
    nodes: list[Any], constants: Constants, inputs: list[Any], outputs: list[Any]
) -> onnx.ModelProto:
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, stored)
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def pass_on(constants: Constants) -> onnx.ModelProto:
    """A model whose outputs are its constants, each under its name and "_out"."""
    return make_model(
        [make_node("Identity", [name], [f"{name}_out"]) for name in constants],
        constants,
        [],
        [
            make_info(f"{name}_out", onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for name, v in constants.items()
        ],
    )


@pytest.fixture
def wasteful() -> onnx.ModelProto:
    """x @ (w * 2) + b, with a node that does nothing, and one whose answer nobody reads."""
    rng = np.random.default_rng(0)
    return make_model(
        [
            make_node("Mul", ["w", "two"], ["w2"]),
            make_node("Identity", ["x"], ["same"]),
            make_node("Neg", ["x"], ["unread"]),
            make_node("MatMul", ["same", "w2"], ["product"]),
            make_node("Add", ["product", "b"], ["y"]),
        ],
        {
            "w": rng.integers(-9, 9, (16, 8)).astype(np.float32),
            "two": np.array(2.0, np.float32),
            "b": np.arange(8, dtype=np.float32),
        },
        [make_info("x", FLOAT, ["batch", 16])],
        [make_info("y", FLOAT, ["batch", 8])],
    )


def answer(model: onnx.ModelProto, batch: int) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(batch).standard_normal((batch, 16)).astype(np.float32)
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


def test_simplified(wasteful: onnx.ModelProto) -> None:
    """Constants are folded and idle nodes gone; answers and what was given are as before."""
    before = wasteful.SerializeToString()
    slim = simplify(wasteful)
    assert wasteful.SerializeToString() == before
    kinds = {node.op_type for node in slim.graph.node}
    assert kinds <= {"MatMul", "Add", "Gemm"}
    assert len(slim.graph.node) <= 2
    for batch in (1, 2, 5):
        np.testing.assert_allclose(answer(slim, batch), answer(wasteful, batch), rtol=1e-6)


def test_finished(wasteful: onnx.ModelProto) -> None:
    """All at once: simplified, halved, every shape known, and right to the last check."""
    done = finish_graph(wasteful)
    onnx.checker.check_model(done, full_check=True)
    assert sum(node.op_type != "Cast" for node in done.graph.node) <= 2
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in done.graph.initializer)
    ports = [*done.graph.input, *done.graph.output]
    assert {p.name: p.type.tensor_type.shape.dim[0].dim_param for p in ports} == {
        "x": "batch",
        "y": "batch",
    }
    for batch in (1, 2, 5):
        np.testing.assert_allclose(answer(done, batch), answer(wasteful, batch), rtol=1e-6)


def test_shapes_are_known(wasteful: onnx.ModelProto) -> None:
    """Of everything in between, and what was noted wrongly before is corrected."""
    wasteful.graph.value_info.append(make_info("gone", FLOAT, [3]))
    inferred = infer_shapes(wasteful)
    known = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    assert known["product"] == ["batch", 8]
    assert known["w2"] == [16, 8]
    assert "gone" not in known


def test_shapes_that_do_not_fit_are_an_error(wasteful: onnx.ModelProto) -> None:
    """A graph that cannot be right does not get to the device."""
    wasteful.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    with pytest.raises(onnx.shape_inference.InferenceError, match="y"):
        infer_shapes(wasteful)


def test_weights_become_fp16_where_that_is_exact() -> None:
    """Stored as float16, read as float32, the same to the bit; all others are left."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((8, 16)).astype(np.float16).astype(np.float32)
    constants: Constants = {
        "exact": half,
        "finer": half + np.float32(1e-5),
        "large": np.full((8, 16), 131072.0, np.float32),
        "small": half.reshape(-1)[: MIN_FP16_VALUES - 1],
        "whole": np.arange(100),
        "nan": np.full((8, 16), np.nan, np.float32),
    }
    model = pass_on(constants)
    store_weights_as_fp16(model)
    onnx.checker.check_model(model)
    halved = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert halved == {"exact.half"}
    outputs = ort.InferenceSession(model.SerializeToString()).run(None, {})
    for value, out in zip(constants.values(), outputs, strict=True):
        np.testing.assert_array_equal(out, value)
        assert out.dtype == value.dtype
