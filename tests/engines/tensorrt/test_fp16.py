"""Conversion to FP16: of FP32 and INT8 networks, with FP32 where sums are long."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.fp16 import QDQ_OPSET, convert_to_fp16, store_weights_as_fp32

onnx = pytest.importorskip("onnx", reason="onnx is in the test extra")
ort = pytest.importorskip("onnxruntime")
helper, T = onnx.helper, onnx.TensorProto
Floats = NDArray[np.float32]

NUM_COLUMNS = 4000


def constant(name: str, values: Any, dtype: Any = np.float32) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, dtype), name)


def assemble(nodes: list[Any], constants: list[Any], opset: int = 17) -> Any:
    inputs = [helper.make_tensor_value_info("x", T.FLOAT, ["n", 3, NUM_COLUMNS])]
    outputs = [helper.make_tensor_value_info("logits", T.FLOAT, ["n", 7])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def make_fp32(stored_as_fp16: bool = False) -> Any:
    """A convolution, the sum over all columns divided by their number, a linear layer."""
    rng = np.random.default_rng(0)
    make = helper.make_node
    conv = rng.normal(0, 0.3, (8, 3, 3)).astype(np.float16)
    nodes = [
        make("Conv", ["x", "conv.w"], ["a"], name="conv", pads=[1, 1]),
        make("Relu", ["a"], ["b"]),
        make("ReduceSum", ["b", "last"], ["sum"], name="sum", keepdims=0),
        make("Div", ["sum", "num"], ["mean"], name="mean"),
        make("MatMul", ["mean", "head.w"], ["logits"], name="head"),
    ]
    constants = [
        constant("last", [2], np.int64),
        constant("num", float(NUM_COLUMNS)),
        constant("head.w", rng.normal(0, 0.5, (8, 7))),
    ]
    if stored_as_fp16:
        constants.append(onnx.numpy_helper.from_array(conv, "conv.w.half"))
        nodes.insert(0, make("Cast", ["conv.w.half"], ["conv.w"], to=T.FLOAT))
    else:
        constants.append(constant("conv.w", conv))
    return assemble(nodes, constants)


def make_int8() -> Any:
    """The same network with an INT8 convolution."""
    model = make_fp32()
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.3, (8, 3, 3)).astype(np.float16).astype(np.float32)
    scale = np.abs(weight).max(axis=(1, 2)) / 127
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "x.s", "x.z"], ["x.q"], name="x_q"),
        make("DequantizeLinear", ["x.q", "x.s", "x.z"], ["x.d"], name="x_d"),
        make("DequantizeLinear", ["w.q", "w.s", "w.z"], ["w.d"], name="w_d", axis=0),
        make("Conv", ["x.d", "w.d"], ["a"], name="conv", pads=[1, 1]),
        *model.graph.node[1:],
    ]
    constants = [
        *(tensor for tensor in model.graph.initializer if tensor.name != "conv.w"),
        constant("x.s", np.float32(200 / 127)),
        constant("x.z", 0, np.int8),
        constant("w.q", np.rint(weight / scale[:, None, None]), np.int8),
        constant("w.s", scale),
        constant("w.z", np.zeros(8), np.int8),
    ]
    return assemble(nodes, constants, QDQ_OPSET)


def run(data: bytes, x: Floats) -> Floats:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"x": x})[0])


@pytest.fixture
def x() -> Floats:
    """An input whose sum over a window is far above 65504."""
    return np.random.default_rng(1).normal(40, 20, (4, 3, NUM_COLUMNS)).astype(np.float32)


def types(model: Any) -> dict[str, int]:
    """Return the type of every tensor, as ONNX infers it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    by_name = {value.name: value.type.tensor_type.elem_type for value in values}
    return by_name | {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}


def node(model: Any, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


@pytest.mark.parametrize("make", [make_fp32, make_int8])
def test_inputs_and_outputs_stay_fp32(make: Any) -> None:
    """Names and types of inputs and outputs do not change."""
    model = onnx.load_from_string(convert_to_fp16(make().SerializeToString()))
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == T.FLOAT
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["logits"]


def test_fp16_inside_and_fp32_in_sums() -> None:
    """Convolutions and linear layers read FP16; the sum and its mean read FP32."""
    model = onnx.load_from_string(convert_to_fp16(make_fp32().SerializeToString()))
    known = types(model)
    for name in ("conv", "head"):
        assert {known[tensor] for tensor in node(model, name).input} == {T.FLOAT16}
    assert known[node(model, "sum").input[0]] == T.FLOAT
    assert {known[tensor] for tensor in node(model, "mean").input} == {T.FLOAT}


@pytest.mark.parametrize("stored_as_fp16", [False, True])
def test_close_to_the_original(x: Floats, stored_as_fp16: bool) -> None:
    """The outputs differ by FP16 rounding, though a sum exceeds the largest FP16 number."""
    model = make_fp32(stored_as_fp16)
    exact = run(model.SerializeToString(), x)
    sums = x.sum(axis=2)
    assert np.abs(sums).max() > 2 * 65504
    converted = run(convert_to_fp16(model.SerializeToString()), x)
    assert np.isfinite(converted).all()
    np.testing.assert_allclose(converted, exact, rtol=4e-3, atol=4e-3 * np.abs(exact).max())


def test_sum_does_not_pass_through_fp16() -> None:
    """There is no cast between two FP32 operators, and no node without a reader."""
    model = onnx.load_from_string(convert_to_fp16(make_fp32().SerializeToString()))
    assert node(model, "mean").input[0] == node(model, "sum").output[0]
    read = {name for node in model.graph.node for name in node.input} | {"logits"}
    assert all(set(node.output) & read for node in model.graph.node)


def test_fp16_values_are_not_cast_again() -> None:
    """Weights stored as FP16 are used as they are, without additional casts."""
    stored, plain = (
        onnx.load_from_string(convert_to_fp16(make_fp32(stored_as_fp16).SerializeToString()))
        for stored_as_fp16 in (True, False)
    )
    assert len(stored.graph.node) == len(plain.graph.node)
    assert {tensor.name: tensor.data_type for tensor in stored.graph.initializer}[
        "conv.w"
    ] == T.FLOAT16


def test_int8_network(x: Floats) -> None:
    """INT8 tensors stay, their scales become FP16, and the outputs are the INT8 network's."""
    model = make_int8()
    data = convert_to_fp16(model.SerializeToString())
    converted = onnx.load_from_string(data)
    known = types(converted)
    assert {known[name] for name in ("x.s", "w.s")} == {T.FLOAT16}
    assert {known[name] for name in ("x.q", "w.q", "x.z", "w.z")} == {T.INT8}
    assert {known[tensor] for tensor in node(converted, "conv").input} == {T.FLOAT16}
    exact = run(model.SerializeToString(), x)
    np.testing.assert_allclose(run(data, x), exact, rtol=1e-2, atol=1e-2 * np.abs(exact).max())


def test_conversion_is_deterministic() -> None:
    """The same input bytes give the same output bytes."""
    data = make_fp32().SerializeToString()
    assert convert_to_fp16(data) == convert_to_fp16(bytes(data))


@pytest.mark.parametrize("data", [b"", b"no network", b"\x08\x09" * 50])
def test_garbage(data: bytes) -> None:
    """One line."""
    with pytest.raises(EngineError, match="ONNX") as caught:
        convert_to_fp16(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime.transformers.float16"])
def test_without_the_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """The message has the package to install."""
    data = make_fp32().SerializeToString()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match="pip install onnx") as caught:
        convert_to_fp16(data)
    assert "\n" not in str(caught.value)


def test_fp32_weights_are_exact(x: Floats) -> None:
    """No cast and no FP16 tensor is left, and the outputs are identical."""
    model = make_fp32(stored_as_fp16=True)
    before = run(model.SerializeToString(), x)
    store_weights_as_fp32(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Cast") == 0
    assert {tensor.data_type for tensor in model.graph.initializer} == {T.FLOAT, T.INT64}
    assert {tensor.name for tensor in model.graph.initializer} >= {"conv.w"}
    assert run(model.SerializeToString(), x).tobytes() == before.tobytes()


def test_other_casts_stay() -> None:
    """A weight that is also read as FP16 stays stored, and a cast of no weight stays."""
    model = make_fp32(stored_as_fp16=True)
    make = helper.make_node
    model.graph.node.extend(
        [
            make("Cast", ["conv.w.half"], ["again"], to=T.FLOAT),
            make("Cast", ["logits"], ["whole"], to=T.INT32),
            make("Identity", ["conv.w.half"], ["read"]),
        ]
    )
    store_weights_as_fp32(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Cast") == 1
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored["conv.w.half"] == T.FLOAT16
    np.testing.assert_array_equal(
        *(
            onnx.numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.name in ("conv.w", "again")
        )
    )
