"""From a network to an ONNX file of half the size with the outputs of torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.training.export import onnx as onnx_export
from emotion_edge.training.export.onnx import (
    MIN_FP16_VALUES,
    ExportError,
    export_onnx,
    finish_graph,
    infer_shapes,
    round_to_fp16,
    shorten_names,
    simplify,
    store_weights_as_fp16,
)
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.fusion import AttentionFusion, ChannelFusion
from emotion_edge.training.models.voice import VoiceNet

Arrays = dict[str, np.ndarray[Any, Any]]
OUTPUTS = {
    "face": ("embedding", "logits"),
    "voice": ("embedding", "logits"),
    "attention": ("logits", "weights"),
    "channel": ("logits", "weights"),
}
NETWORKS = tuple(OUTPUTS)


def make_inputs(name: str, batch: int, seed: int = 0, side_px: int = 64) -> Arrays:
    """Random inputs, masked in part where a network has a mask."""
    rng = np.random.default_rng((seed, batch))

    def noise(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal((batch, *shape)).astype(np.float32)

    if name == "face":
        return {"image": noise(3, side_px, side_px)}
    if name == "voice":
        mask = np.ones((batch, 300), np.float32)
        mask[0, :200] = 0
        return {"mel": noise(64, 300), "mask": mask}
    faces = np.ones((batch, 8), np.float32)
    voice = np.ones((batch, 1), np.float32)
    faces[0, :5] = 0
    faces[-1] = batch == 1
    voice[0] = batch == 1
    return {"faces": noise(8, 256), "face_mask": faces, "voice": noise(256), "voice_mask": voice}


@pytest.fixture(scope="module")
def nets(settle: Callable[..., None]) -> dict[str, nn.Module]:
    """All networks, untrained."""
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {
        "face": FaceNet(),
        "voice": VoiceNet(),
        "attention": AttentionFusion(),
        "channel": ChannelFusion(),
    }
    for name, net in nets.items():
        settle(net, *(torch.from_numpy(array) for array in make_inputs(name, 8, seed=9).values()))
    return nets


@pytest.fixture(scope="module")
def files(nets: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ONNX files of all networks."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, net in nets.items():
        export_onnx(net, make_inputs(name, 1), folder / f"{name}.onnx", (), OUTPUTS[name])
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_same_as_torch(nets: dict[str, nn.Module], files: Path, name: str) -> None:
    """Every output to 1e-3, for several batch sizes, with masks, and for other image sizes."""
    rounded = round_to_fp16(nets[name])
    with OnnxEngine(files / f"{name}.onnx", 1) as engine, torch.no_grad():
        assert {spec.shape[0] for spec in (*engine.inputs, *engine.outputs)} == {None}
        assert {spec.dtype for spec in (*engine.inputs, *engine.outputs)} == {"float32"}
        cases = [make_inputs(name, batch, seed) for batch in (1, 2, 5) for seed in range(3)]
        if name == "face":
            cases += [make_inputs(name, 2, side_px=side) for side in (32, 96)]
        for inputs in cases:
            want = rounded(*(torch.from_numpy(array) for array in inputs.values()))
            result = engine.infer(inputs)
            for output, tensor in zip(OUTPUTS[name], want, strict=True):
                np.testing.assert_allclose(result[output], tensor.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_finished_file(nets: dict[str, nn.Module], files: Path, name: str) -> None:
    """Every shape is known, no constant is computed, weights are FP16, and no path is in it."""
    data = (files / f"{name}.onnx").read_bytes()
    num_values = sum(p.numel() for p in nets[name].parameters())
    assert len(data) < 2.05 * num_values + 100_000
    assert str(Path(onnx_export.__file__).parent.parent).encode() not in data
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    assert {out for node in model.graph.node for out in node.output if out} <= known
    assert {node.op_type for node in model.graph.node}.isdisjoint({"Identity", "Constant"})


@pytest.mark.parametrize("name", NETWORKS)
def test_simplification_changes_no_output(
    nets: dict[str, nn.Module], files: Path, tmp_path: Path, name: str
) -> None:
    """The file has no more nodes than the traced graph, and the same outputs."""
    raw = tmp_path / "raw.onnx"
    onnx_export._trace(round_to_fp16(nets[name]), make_inputs(name, 1), raw, OUTPUTS[name])
    finished = onnx.load(str(files / f"{name}.onnx")).graph.node
    num_nodes = sum(node.op_type != "Cast" for node in finished)
    assert num_nodes <= len(onnx.load(str(raw)).graph.node)
    inputs = make_inputs(name, 2)
    with OnnxEngine(raw, 1) as before, OnnxEngine(files / f"{name}.onnx", 1) as after:
        want = before.infer(inputs)
        for output, value in after.infer(inputs).items():
            np.testing.assert_allclose(value, want[output], rtol=0, atol=1e-5)


def test_network_is_unchanged(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    """Weights, batch norms and mode."""
    voice = nets["voice"]
    before = {name: value.clone() for name, value in voice.state_dict().items()}
    voice.train()
    try:
        export_onnx(voice, make_inputs("voice", 1), tmp_path / "voice.onnx")
        assert all(module.training for module in voice.modules())
    finally:
        voice.eval()
    assert all(torch.equal(value, before[name]) for name, value in voice.state_dict().items())


def test_exported(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    """Outputs for the example, sizes, and both differences on the real inputs."""
    path, example = tmp_path / "voice.onnx", make_inputs("voice", 1)
    without_real = export_onnx(nets["voice"], example, path)
    real = [make_inputs("voice", 3, seed=5), make_inputs("voice", 2, seed=6)]
    reordered = (dict(reversed(inputs.items())) for inputs in real)  # inputs are by name
    exported = export_onnx(nets["voice"], example, path, reordered)
    assert (without_real.num_real, exported.num_real) == (0, 5)
    assert exported.num_parameters == sum(p.numel() for p in nets["voice"].parameters())
    assert exported.num_bytes == path.stat().st_size
    with OnnxEngine(path) as engine:
        np.testing.assert_allclose(exported.golden["logits"], engine.infer(example)["logits"][0])
        assert len(exported.golden["embedding"]) == 256
    rounded = round_to_fp16(nets["voice"])
    with torch.no_grad():
        batches = [[torch.from_numpy(array) for array in inputs.values()] for inputs in real]
        differences = [nets["voice"](*batch)[1] - rounded(*batch)[1] for batch in batches]
    largest = max(float(difference.abs().max()) for difference in differences)
    assert exported.rounding_difference["logits"] == pytest.approx(largest)
    assert without_real.rounding_difference != exported.rounding_difference
    assert set(exported.onnx_difference) == {"embedding", "logits"}
    assert 0 <= max(exported.onnx_difference.values()) < 1e-3
    described = exported.describe()
    assert described["real_inputs"] == 5
    assert described["rounding_difference"]["logits"] == pytest.approx(largest, rel=0.1)


def corrupt(name: str, value: float) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """Return a `finish_graph` that first fills a bias of the graph with `value`."""

    def corrupt_and_finish(model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            if tensor.name.startswith(name):
                values = onnx.numpy_helper.to_array(tensor)
                wrong = np.full(values.shape, value, values.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(wrong, tensor.name))
        return finish_graph(model)

    return corrupt_and_finish


@pytest.mark.parametrize(
    ("tensor", "value", "output"),
    [
        ("classifier.bias", 1.0, "logits"),
        ("classifier.bias", np.nan, "logits"),
        ("embedding.bias", 0.5, "embedding"),
    ],
)
def test_disagreement_is_an_error(
    nets: dict[str, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensor: str,
    value: float,
    output: str,
) -> None:
    """A difference in any output raises an error that names it."""
    monkeypatch.setattr(onnx_export, "finish_graph", corrupt(tensor, value))
    with pytest.raises(ExportError, match=rf"face\.onnx: {output} .*0\.001"):
        export_onnx(nets["face"], make_inputs("face", 1, side_px=32), tmp_path / "face.onnx")


def test_disagreement_on_a_real_input_is_an_error(
    nets: dict[str, nn.Module], tmp_path: Path
) -> None:
    """Also when the example has the right outputs."""
    real = make_inputs("voice", 1)
    real["mel"][0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="nan"):
        export_onnx(nets["voice"], make_inputs("voice", 1), tmp_path / "voice.onnx", [real])


make_node, make_info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
FLOAT = onnx.TensorProto.FLOAT


def make_model(
    nodes: list[Any], constants: Arrays, inputs: list[Any], outputs: list[Any]
) -> onnx.ModelProto:
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, stored)
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def make_constant_model(constants: Arrays) -> onnx.ModelProto:
    """A model whose outputs are its constants."""
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
    """x @ (w * 2) + b, with an identity and an unused node."""
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


def run_model(model: onnx.ModelProto, batch: int) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(batch).standard_normal((batch, 16)).astype(np.float32)
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])


def test_simplify(wasteful: onnx.ModelProto) -> None:
    """Constants are folded and redundant nodes removed; input and outputs are unchanged."""
    before = wasteful.SerializeToString()
    slim = simplify(wasteful)
    assert wasteful.SerializeToString() == before
    kinds = {node.op_type for node in slim.graph.node}
    assert kinds <= {"MatMul", "Add", "Gemm"}
    assert len(slim.graph.node) <= 2
    for batch in (1, 2, 5):
        np.testing.assert_allclose(run_model(slim, batch), run_model(wasteful, batch), rtol=1e-6)


def test_finish_graph(wasteful: onnx.ModelProto) -> None:
    """The graph is simplified and valid, has FP16 weights, and keeps its dynamic batch."""
    finished = finish_graph(wasteful)
    onnx.checker.check_model(finished, full_check=True)
    assert sum(node.op_type != "Cast" for node in finished.graph.node) <= 2
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in finished.graph.initializer)
    for port in (*finished.graph.input, *finished.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    for batch in (1, 2, 5):
        np.testing.assert_allclose(
            run_model(finished, batch), run_model(wasteful, batch), rtol=1e-6
        )


def test_names_inside_are_short(wasteful: onnx.ModelProto) -> None:
    """Those of inputs, outputs and nodes stay, and so do the outputs and the known shapes."""
    names = [node.name for node in wasteful.graph.node]
    shorter = infer_shapes(wasteful)
    shorten_names(shorter)
    onnx.checker.check_model(shorter, full_check=True)
    assert [node.name for node in shorter.graph.node] == names
    tensors = {name for node in shorter.graph.node for name in (*node.input, *node.output)}
    assert {len(name) for name in tensors - {"x", "y"}} == {1}
    assert {value.name for value in shorter.graph.value_info} <= tensors
    assert len(shorter.graph.value_info) > 2
    np.testing.assert_array_equal(run_model(shorter, 2), run_model(wasteful, 2))


def test_infer_shapes(wasteful: onnx.ModelProto) -> None:
    """Intermediate shapes are known, and outdated ones are removed."""
    wasteful.graph.value_info.append(make_info("gone", FLOAT, [3]))
    inferred = infer_shapes(wasteful)
    known = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    assert known["product"] == ["batch", 8]
    assert known["w2"] == [16, 8]
    assert "gone" not in known


def test_inconsistent_shapes(wasteful: onnx.ModelProto) -> None:
    """A graph with an impossible output shape is refused."""
    wasteful.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 9
    with pytest.raises(onnx.shape_inference.InferenceError, match="y"):
        infer_shapes(wasteful)


def test_weights_become_fp16_where_that_is_exact() -> None:
    """Stored as FP16 and read as FP32 without loss; other tensors are unchanged."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((8, 16)).astype(np.float16).astype(np.float32)
    constants: Arrays = {
        "exact": half,
        "finer": half + np.float32(1e-5),
        "large": np.full((8, 16), 131072.0, np.float32),
        "small": half.reshape(-1)[: MIN_FP16_VALUES - 1],
        "whole": np.arange(100),
        "nan": np.full((8, 16), np.nan, np.float32),
    }
    model = make_constant_model(constants)
    store_weights_as_fp16(model)
    onnx.checker.check_model(model)
    halved = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert halved == {"exact.half"}
    values = ort.InferenceSession(model.SerializeToString()).run(None, {})
    for value, want in zip(values, constants.values(), strict=True):
        np.testing.assert_array_equal(value, want)
        assert value.dtype == want.dtype


@pytest.mark.parametrize("name", ["face", "voice", "channel"])
def test_rounded_networks(nets: dict[str, nn.Module], name: str) -> None:
    """No batch norm is left, every large weight is exact in FP16, and outputs are close; the
    network itself is unchanged."""
    model = nets[name]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rounded = round_to_fp16(model.train())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kinds = {type(module) for module in rounded.modules()}
    assert kinds.isdisjoint({nn.BatchNorm1d, nn.BatchNorm2d})
    for parameter in rounded.parameters():
        if parameter.numel() >= MIN_FP16_VALUES:
            assert torch.equal(parameter.half().float(), parameter)
    assert not any(module.training for module in rounded.modules())
    inputs = [torch.from_numpy(array) for array in make_inputs(name, 4).values()]
    with torch.no_grad():
        for value, want in zip(rounded(*inputs), model.eval()(*inputs), strict=True):
            assert 0 < (value - want).abs().max() < 0.03 * want.abs().max()


def test_values_outside_fp16_stay() -> None:
    """A tensor with a value beyond 65504 is unchanged, and so is a small one."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    with torch.no_grad():
        model[0].weight[0, 0] = 1e5
    rounded = round_to_fp16(model)
    for value, want in zip(rounded.parameters(), model.parameters(), strict=True):
        assert torch.equal(value, want)
