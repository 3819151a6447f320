"""Q/DQ networks: only weighted operators read quantized tensors."""

from __future__ import annotations

from collections.abc import Callable

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
    """A function (network, its name, excluded layers) -> the network, other layers quantized."""

    def run(data: bytes, network: str, excluded: tuple[str, ...] = ()) -> onnx.ModelProto:
        model = read_network(data, network)
        reads = find_weighted(model)
        tensors = sorted(set(reads.values()))
        histograms = collect_histograms(model, tensors, make_samples(network).batches(16))
        ranges = {name: choose_range(each, "minmax") for name, each in histograms.items()}
        return quantize(model, ranges, [name for name in reads if name not in excluded])

    return run


def edit(data: bytes, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(data)
    change(model)
    return bytes(model.SerializeToString())


def readers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]


def check_rounded(graph: onnx.GraphProto, layers: set[str]) -> None:
    """Assert that only `layers` read quantized tensors, and no output is one."""
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
        assert {each.name for each in used} <= layers
        assert all(each.input[0] == back.output[0] for each in used), "not as a bias or weight"
    behind = {
        name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    for node in graph.node:
        if node.name in layers:
            assert set(node.input[:2]) <= behind
            assert not set(node.input[2:]) & behind, "the bias stays as it is"


@pytest.mark.parametrize("network", NETWORKS)
def test_only_weighted_operators_read_quantized_tensors(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], network: str
) -> None:
    """Residual sums and the embedding, an output, stay exact."""
    data = make_network(network)
    model = quantize_all(data, network)
    check_rounded(model.graph, set(find_weighted(onnx.load_from_string(data))))
    names = [value.name for value in model.graph.output]
    assert names == ["embedding", "logits"]


@pytest.mark.parametrize("excluded", ["stem", "mix", "side", "embed", "head"])
def test_excluded_layer_keeps_its_exact_input(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], excluded: str
) -> None:
    """Also where a quantized layer reads the same tensor."""
    data = make_network("face")
    model = quantize_all(data, "face", (excluded,))
    before, after = (
        next(node for node in graph.node if node.name == excluded)
        for graph in (onnx.load_from_string(data).graph, model.graph)
    )
    assert list(after.input) == list(before.input)
    check_rounded(model.graph, set(find_weighted(onnx.load_from_string(data))) - {excluded})


@pytest.mark.parametrize("network", NETWORKS)
def test_format_for_tensorrt(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto], network: str
) -> None:
    """INT8 with zero point 0, weights with a scale for each output channel, activations with one
    scale, opset 19."""
    data = make_network(network)
    model = quantize_all(data, network)
    (opset,) = model.opset_import
    assert (opset.domain, opset.version) == ("", QDQ_OPSET) == ("", 19)
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    floats = {
        node.name: numpy_helper.to_array(each)
        for node in onnx.load_from_string(data).graph.node
        for each in onnx.load_from_string(data).graph.initializer
        if len(node.input) > 1 and each.name == node.input[1]
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
        node = next(each for each in model.graph.node if each.name == name)
        back = made_by[node.input[1]]
        weights, scales = stored[back.input[0]], stored[back.input[1]]
        assert weights.dtype == np.int8
        flipped = any(each.name == "transB" and each.i for each in node.attribute)
        axis = 0 if node.op_type == "Conv" or flipped else 1
        assert scales.shape == (weights.shape[axis],)
        (attribute,) = [each for each in back.attribute if each.name == "axis"]
        assert attribute.i in (axis, axis - weights.ndim)
        shape = [1] * weights.ndim
        shape[axis] = -1
        error = np.abs(weights * scales.reshape(shape) - floats[name])
        assert (error <= 0.5001 * scales.reshape(shape) + 1e-7).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stored_as_fp16", [False, True])
def test_runs_and_agrees(
    make_network: MakeNetwork,
    make_samples: MakeSamples,
    quantize_all: Callable[..., onnx.ModelProto],
    network: str,
    stored_as_fp16: bool,
) -> None:
    """In ONNX Runtime, close to the original, with weights stored in FP16 or FP32."""
    data = make_network(network)
    if stored_as_fp16:
        data = edit(data, store_weights_as_fp16)
        assert b"Cast" in data
    packed = serialize(quantize_all(data, network))
    onnx.checker.check_model(onnx.load_from_string(packed), full_check=True)
    feeds = make_samples(network, 64, seed=9).batches(16)
    difference = compare_logits(compute_logits(data, feeds), compute_logits(packed, feeds), 1.0)
    assert difference.agreement > 0.9
    assert 0 < difference.divergence < 0.01
    weights = [each for each in onnx.load_from_string(packed).graph.initializer if each.dims]
    assert not {each.name for each in weights} & {"stem.w", "hear.w", "embed.w", "head.w"}


def test_same_bytes_twice(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto]
) -> None:
    """The result does not depend on the order of a set."""
    data = make_network()
    assert serialize(quantize_all(data, "face")) == serialize(quantize_all(data, "face"))


def test_network_is_unchanged(make_network: MakeNetwork) -> None:
    """The same network is quantized again for every candidate."""
    model = read_network(make_network(), "face")
    before = model.SerializeToString(deterministic=True)
    serialize(quantize(model, dict.fromkeys(find_weighted(model).values(), 3.0), ["mix", "head"]))
    assert model.SerializeToString(deterministic=True) == before


def test_ranges_become_scales(make_network: MakeNetwork) -> None:
    """The range -t..t has 127 steps on each side."""
    model = read_network(make_network(), "face")
    graph = quantize(model, {"image": 2.54, "flat": 127.0}, ["stem", "embed"]).graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    scales = {
        n.input[0]: float(stored[n.input[1]].max())
        for n in graph.node
        if n.op_type == "QuantizeLinear"
    }
    assert scales == pytest.approx({"image": 0.02, "flat": 1.0}, rel=5e-3)


def test_no_layer_at_all(make_network: MakeNetwork, make_samples: MakeSamples) -> None:
    """Without layers to quantize the network is the same."""
    data = make_network()
    feeds = make_samples("face").batches(16)
    model = quantize(read_network(data, "face"), {}, [])
    np.testing.assert_allclose(
        compute_logits(serialize(model), feeds), compute_logits(data, feeds), atol=1e-5
    )


@pytest.mark.parametrize(("layer", "tensor"), [("head", "embedding"), ("Mul", ""), ("missing", "")])
def test_missing_range(make_network: MakeNetwork, layer: str, tensor: str) -> None:
    """The layer is named, and its input."""
    model = read_network(make_network(), "face")
    with pytest.raises(CalibrationError, match=rf"^layer {layer}: .*{tensor}"):
        quantize(model, {"image": 1.0}, ["stem", layer])


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
    "change",
    [
        lambda data: edit(data, forget_names),
        lambda data: edit(data, add_quantized),
        lambda data: edit(data, break_graph),
        lambda _: b"",
        lambda _: b"no network",
        lambda _: b"\x08\x09" * 50,
    ],
)
def test_networks_that_cannot_be_quantized(
    make_network: MakeNetwork, change: Callable[[bytes], bytes]
) -> None:
    """One line that names the network."""
    with pytest.raises(CalibrationError, match=r"^mine: ") as caught:
        read_network(change(make_network()), "mine")
    assert "\n" not in str(caught.value)


def test_quantized_network_is_refused(
    make_network: MakeNetwork, quantize_all: Callable[..., onnx.ModelProto]
) -> None:
    """The result of `quantize` cannot be quantized again."""
    data = serialize(quantize_all(make_network(), "face"))
    with pytest.raises(CalibrationError, match=r"^mine: "):
        read_network(data, "mine")


def test_fp16_weights_become_fp32(make_network: MakeNetwork) -> None:
    """Weights stored in FP16 become FP32 constants, in the order that ONNX requires."""
    data = edit(make_network(), store_weights_as_fp16)
    model = read_network(data, "face")
    onnx.checker.check_model(model, full_check=True)
    assert {each.data_type for each in model.graph.initializer} == {TensorProto.FLOAT}
    assert find_weighted(model) == find_weighted(onnx.load_from_string(make_network()))
