"""Networks of 16 bits: made of those of 32, wide where sums are long, of INT8 networks too."""

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


def summing(stored_half: bool = False) -> Any:
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
    if stored_half:
        constants.append(onnx.numpy_helper.from_array(conv, "conv.w.half"))
        nodes.insert(0, make("Cast", ["conv.w.half"], ["conv.w"], to=T.FLOAT))
    else:
        constants.append(constant("conv.w", conv))
    return assemble(nodes, constants)


def quantized() -> Any:
    """The same, with 8-bit weights and input of the convolution."""
    model = summing()
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
    kept = [one for one in model.graph.initializer if one.name != "conv.w"]
    constants = [
        *kept,
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
    """So loud that the sum over a window is far more than 65504."""
    return np.random.default_rng(1).normal(40, 20, (4, 3, NUM_COLUMNS)).astype(np.float32)


def types(model: Any) -> dict[str, int]:
    """Of every tensor, as ONNX infers it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {one.name: one.data_type for one in inferred.graph.initializer}


def node(model: Any, name: str) -> Any:
    return next(one for one in model.graph.node if one.name == name)


@pytest.mark.parametrize("make", [summing, quantized])
def test_inputs_and_outputs_stay_fp32(make: Any) -> None:
    """Inputs and outputs are float32, so that nobody around the network need know."""
    model = onnx.load_from_string(convert_to_fp16(make().SerializeToString()))
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == T.FLOAT
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["logits"]


def test_fp16_inside_and_fp32_in_sums() -> None:
    """Convolutions and linear layers read 16-bit numbers; the sum and its mean do not."""
    model = onnx.load_from_string(convert_to_fp16(summing().SerializeToString()))
    known = types(model)
    for name in ("conv", "head"):
        assert {known[tensor] for tensor in node(model, name).input} == {T.FLOAT16}
    assert known[node(model, "sum").input[0]] == T.FLOAT
    assert {known[tensor] for tensor in node(model, "mean").input} == {T.FLOAT}


@pytest.mark.parametrize("stored_half", [False, True])
def test_close_to_the_original(x: Floats, stored_half: bool) -> None:
    """Within the rounding of 16 bits, though a sum is past their largest number."""
    model = summing(stored_half)
    exact = run(model.SerializeToString(), x)
    sums = x.sum(axis=2)
    assert np.abs(sums).max() > 2 * 65504
    halved = run(convert_to_fp16(model.SerializeToString()), x)
    assert np.isfinite(halved).all()
    np.testing.assert_allclose(halved, exact, rtol=4e-3, atol=4e-3 * np.abs(exact).max())


def test_sum_does_not_pass_through_fp16() -> None:
    """Between two wide operators there is no cast, and nothing is computed for nobody."""
    model = onnx.load_from_string(convert_to_fp16(summing().SerializeToString()))
    assert node(model, "mean").input[0] == node(model, "sum").output[0]
    read = {name for one in model.graph.node for name in one.input} | {"logits"}
    assert all(set(one.output) & read for one in model.graph.node)


def test_fp16_values_are_not_cast_again() -> None:
    """Weights stored in 16 bits are read as they are, by no cast more than others."""
    stored, plain = (
        onnx.load_from_string(convert_to_fp16(summing(halved).SerializeToString()))
        for halved in (True, False)
    )
    assert len(stored.graph.node) == len(plain.graph.node)
    assert {one.name: one.data_type for one in stored.graph.initializer}["conv.w"] == T.FLOAT16


def test_of_an_int8_network(x: Floats) -> None:
    """Eight bits stay eight, their scales become 16, and the answers those of the INT8 network."""
    model = quantized()
    data = convert_to_fp16(model.SerializeToString())
    halved = onnx.load_from_string(data)
    known = types(halved)
    assert {known[name] for name in ("x.s", "w.s")} == {T.FLOAT16}
    assert {known[name] for name in ("x.q", "w.q", "x.z", "w.z")} == {T.INT8}
    assert {known[tensor] for tensor in node(halved, "conv").input} == {T.FLOAT16}
    exact = run(model.SerializeToString(), x)
    np.testing.assert_allclose(run(data, x), exact, rtol=1e-2, atol=1e-2 * np.abs(exact).max())


def test_original_is_left_alone_and_answers_repeat(x: Floats) -> None:
    """The same bytes in, the same bytes out."""
    data = summing().SerializeToString()
    assert convert_to_fp16(data) == convert_to_fp16(bytes(data))
    assert run(convert_to_fp16(data), x).tobytes() == run(convert_to_fp16(data), x).tobytes()


@pytest.mark.parametrize("data", [b"", b"no network", b"\x08\x09" * 50])
def test_garbage(data: bytes) -> None:
    """One line."""
    with pytest.raises(EngineError, match=r"^not an ONNX network: ") as caught:
        convert_to_fp16(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime.transformers.float16"])
def test_without_the_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """What to install."""
    data = summing().SerializeToString()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=r"package onnx: .*; pip install onnx") as caught:
        convert_to_fp16(data)
    assert "\n" not in str(caught.value)


def test_fp32_weights_are_exact(x: Floats) -> None:
    """No cast and no 16-bit number is left, and the answers are the same to the last bit."""
    model = summing(stored_half=True)
    before = run(model.SerializeToString(), x)
    store_weights_as_fp32(model)
    onnx.checker.check_model(model, full_check=True)
    assert [one.op_type for one in model.graph.node].count("Cast") == 0
    assert {one.data_type for one in model.graph.initializer} == {T.FLOAT, T.INT64}
    assert {one.name for one in model.graph.initializer} >= {"conv.w"}
    assert run(model.SerializeToString(), x).tobytes() == before.tobytes()


def test_other_casts_stay(x: Floats) -> None:
    """A weight that something reads as 16 bits as well, and a cast of what is no weight."""
    model = summing(stored_half=True)
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
    assert [one.op_type for one in model.graph.node].count("Cast") == 1
    kept = {one.name: one.data_type for one in model.graph.initializer}
    assert kept["conv.w.half"] == T.FLOAT16
    np.testing.assert_array_equal(
        *(
            onnx.numpy_helper.to_array(one)
            for one in model.graph.initializer
            if one.name in ("conv.w", "again")
        )
    )
