"""Q/DQ networks: rounded is what weighted operators read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emotion_edge.calibration.divergence import compare_logits, compute_logits
from emotion_edge.calibration.errors import CalibrationError
from emotion_edge.calibration.quantize import quantize, read_network, serialize
from emotion_edge.calibration.ranges import choose_range, collect_histograms, find_weighted
from emotion_edge.calibration.samples import Samples
from emotion_edge.engines.tensorrt.fp16 import QDQ_OPSET
from emotion_edge.training.export.onnx import store_weights_as_fp16

MakeNetwork = Callable[..., bytes]
MakeSamples = Callable[..., Samples]
NETWORKS = ("face", "voice")


@pytest.fixture
def quantize_all(make_samples: MakeSamples) -> Callable[..., onnx.ModelProto]:
    """A function (network's bytes, its name, layers spared) -> with all other layers quantised."""

    def run(data: bytes, network: str, excluded: tuple[str, ...] = ()) -> onnx.ModelProto:
        model = read_network(data, network)
        reads = find_weighted(model)
        tensors = sorted(set(reads.values()))
        found = collect_histograms(model, tensors, make_samples(network).batches(16))
        ranges = {name: choose_range(one, "minmax") for name, one in found.items()}
        return quantize(model, ranges, [name for name in reads if name not in excluded])

    return run


def edit(data: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(data)
    change(model)
    return bytes(model.SerializeToString())


def readers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]


def check_rounded(graph: onnx.GraphProto, layers: set[str]) -> None:
    """Only `layers` read what was rounded, and nobody outside sees it."""
    outputs = {value.name for value in graph.output}
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    for node in quantized:
        assert node.output[0] not in outputs
        (back,) = readers(graph, node.output[0])
        assert back.op_type == "DequantizeLinear"
        assert list(back.input[1:]) == list(node.input[1:])
        assert back.output[0] not in outputs
        used = readers(graph, back.output[0])
        assert used
        assert {one.name for one in used} <= layers
        assert all(one.input[0] == back.output[0] for one in used), "not as a bias or weight"
    behind = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    for node in graph.node:
        if node.name in layers:
            assert set(node.input[:2]) <= behind
            assert not set(node.input[2:]) & behind, "the bias stays as it is"


@pytest.mark.parametrize("network", NETWORKS)
def test_only_weighted_operators_read_what_was_rounded(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], network: str
) -> None:
    """Sums around a layer, and the embedding that is an output, stay whole."""
    data = make_network(network)
    model = quantize_all(data, network)
    check_rounded(model.graph, set(find_weighted(onnx.load_from_string(data))))
    names = [value.name for value in model.graph.output]
    assert names == ["embedding", "logits"]


@pytest.mark.parametrize("excluded", ["stem", "mix", "side", "embed", "head"])
def test_excluded_layer_keeps_its_exact_input(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], excluded: str
) -> None:
    """Also where its neighbour is quantised and reads the same tensor."""
    data = make_network("face")
    model = quantize_all(data, "face", (excluded,))
    before, after = (
        next(node for node in graph.node if node.name == excluded)
        for graph in (onnx.load_from_string(data).graph, model.graph)
    )
    assert list(after.input) == list(before.input)
    check_rounded(model.graph, set(find_weighted(onnx.load_from_string(data))) - {excluded})


@pytest.mark.parametrize("network", NETWORKS)
def test_as_tensorrt_wants_them(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], network: str
) -> None:
    """Signed 8 bits, zero points 0, weights with a scale for each channel of the output,
    activations with one, opset 19."""
    data = make_network(network)
    model = quantize_all(data, network)
    (opset,) = model.opset_import
    assert (opset.domain, opset.version) == ("", QDQ_OPSET) == ("", 19)
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    floats = {
        node.name: numpy_helper.to_array(one)
        for node in onnx.load_from_string(data).graph.node
        for one in onnx.load_from_string(data).graph.initializer
        if len(node.input) > 1 and one.name == node.input[1]
    }
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = stored[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert stored[node.input[1]].dtype == np.float32
        if node.op_type == "QuantizeLinear":
            assert stored[node.input[1]].size == 1
    for name in find_weighted(onnx.load_from_string(data)):
        node = next(one for one in model.graph.node if one.name == name)
        back = made_by[node.input[1]]
        weights, scales = stored[back.input[0]], stored[back.input[1]]
        assert weights.dtype == np.int8
        flipped = any(one.name == "transB" and one.i for one in node.attribute)
        axis = 0 if node.op_type == "Conv" or flipped else 1
        assert scales.shape == (weights.shape[axis],)
        (attribute,) = [one for one in back.attribute if one.name == "axis"]
        assert attribute.i in (axis, axis - weights.ndim)
        shape = [1] * weights.ndim
        shape[axis] = -1
        error = np.abs(weights * scales.reshape(shape) - floats[name])
        assert (error <= 0.5001 * scales.reshape(shape) + 1e-7).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("halved", [False, True])
def test_runs_and_agrees(
    make_network: MakeNetwork,
    make_samples: MakeSamples,
    quantize_all: Callable[..., onnx.ModelProto],
    network: str,
    halved: bool,
) -> None:
    """On ONNX Runtime, close to the original; whether weights are stored in 16 bits or 32."""
    data = make_network(network)
    if halved:
        data = edit(data, store_weights_as_fp16)
        assert b"Cast" in data
    packed = serialize(quantize_all(data, network))
    onnx.checker.check_model(onnx.load_from_string(packed), full_check=True)
    feeds = make_samples(network, 64, seed=9).batches(16)
    found = compare_logits(compute_logits(data, feeds), compute_logits(packed, feeds), 1.0)
    assert found.agreement > 0.9
    assert 0 < found.divergence < 0.01
    weights = [one for one in onnx.load_from_string(packed).graph.initializer if one.dims]
    assert not {one.name for one in weights} & {"stem.w", "hear.w", "embed.w", "head.w"}


def test_same_bytes_twice(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto]
) -> None:
    """Nothing depends on an order that changes."""
    data = make_network()
    assert serialize(quantize_all(data, "face")) == serialize(quantize_all(data, "face"))


def test_network_is_left_alone(make_network: MakeNetwork) -> None:
    """What was read is read again for every layer that is tried."""
    model = read_network(make_network(), "face")
    before = model.SerializeToString(deterministic=True)
    serialize(quantize(model, dict.fromkeys(find_weighted(model).values(), 3.0), ["mix", "head"]))
    assert model.SerializeToString(deterministic=True) == before


def test_ranges_become_scales(make_network: MakeNetwork) -> None:
    """The range -t..t is 127 steps each way."""
    model = read_network(make_network(), "face")
    graph = quantize(model, {"image": 2.54, "flat": 127.0}, ["stem", "embed"]).graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    scales = {
        n.input[0]: float(stored[n.input[1]].max())
        for n in graph.node
        if n.op_type == "QuantizeLinear"
    }
    assert scales == pytest.approx({"image": 0.02, "flat": 1.0}, rel=5e-3)


def test_no_layer_at_all(make_network: MakeNetwork, make_samples: MakeSamples) -> None:
    """Then it is the same network."""
    data = make_network()
    feeds = make_samples("face").batches(16)
    model = quantize(read_network(data, "face"), {}, [])
    np.testing.assert_allclose(
        compute_logits(serialize(model), feeds), compute_logits(data, feeds), atol=1e-5
    )


@pytest.mark.parametrize("layer", ["head", "Mul", "nobody"])
def test_missing_range(make_network: MakeNetwork, layer: str) -> None:
    """The layer is named, and what it reads."""
    model = read_network(make_network(), "face")
    with pytest.raises(CalibrationError, match=rf"^layer {layer}: no range for its input") as e:
        quantize(model, {"image": 1.0}, ["stem", layer])
    assert layer != "head" or "embedding" in str(e.value)


def forget_names(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = ""


def add_quantized(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "s"))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["logits", "s"], ["q"]))


def break_graph(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (forget_names, "a Conv operator has no name to call it by"),
        (add_quantized, "is quantised already"),
        (break_graph, "no ONNX network: "),
    ],
)
def test_networks_that_cannot_be_quantized(
    make_network: MakeNetwork, change: Callable[[Any], None], said: str
) -> None:
    """One line that names the network."""
    data = edit(make_network(), change)
    with pytest.raises(CalibrationError, match=rf"^mine: {said}") as caught:
        read_network(data, "mine")
    assert "\n" not in str(caught.value)


def test_quantized_network_is_refused(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto]
) -> None:
    """Its own result included."""
    packed = serialize(quantize_all(make_network(), "face"))
    with pytest.raises(CalibrationError, match=r"^mine: is quantised already"):
        read_network(packed, "mine")


@pytest.mark.parametrize("data", [b"", b"no network", b"\x08\x09" * 50])
def test_no_onnx(data: bytes) -> None:
    """One line."""
    with pytest.raises(CalibrationError, match=r"^mine: no ONNX network: ") as caught:
        read_network(data, "mine")
    assert "\n" not in str(caught.value)


def test_fp16_weights_become_fp32(make_network: MakeNetwork) -> None:
    """Weights stored in 16 bits come back as the constants that they are, in the order that ONNX
    demands."""
    data = edit(make_network(), store_weights_as_fp16)
    model = read_network(data, "face")
    onnx.checker.check_model(model, full_check=True)
    assert {one.data_type for one in model.graph.initializer} == {TensorProto.FLOAT}
    assert find_weighted(model) == find_weighted(onnx.load_from_string(make_network()))
