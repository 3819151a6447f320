"""From a network to a file of half the size that answers as torch does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.training.export import onnx as onnx_export
from emotion_edge.training.export.onnx import ExportError, export_onnx
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.fusion import AttentionFusion, ChannelFusion
from emotion_edge.training.models.voice import VoiceNet

Feed = dict[str, np.ndarray[Any, Any]]
OUTPUTS = {
    "face": ("embedding", "logits"),
    "voice": ("embedding", "logits"),
    "attention": ("logits", "weights"),
    "channel": ("logits", "weights"),
}
NETWORKS = tuple(OUTPUTS)


def make_feed(name: str, batch: int, seed: int = 0, side_px: int = 64) -> Feed:
    """Random input, with gaps where a network knows gaps."""
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
    """All networks at their real size, untrained."""
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {
        "face": FaceNet(),
        "voice": VoiceNet(),
        "attention": AttentionFusion(),
        "channel": ChannelFusion(),
    }
    for name, net in nets.items():
        settle(net, *(torch.from_numpy(array) for array in make_feed(name, 8, seed=9).values()))
    return nets


@pytest.fixture(scope="module")
def files(nets: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them as ONNX."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, net in nets.items():
        export_onnx(net, make_feed(name, 1), folder / f"{name}.onnx", (), OUTPUTS[name])
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_same_as_torch(nets: dict[str, nn.Module], files: Path, name: str) -> None:
    """To 1e-3 in every output, weights rounded alike, for one, two and five at a time, with parts
    missing, and for pictures of other sizes."""
    rounded = onnx_export.round_to_fp16(nets[name])
    with OnnxEngine(files / f"{name}.onnx", 1) as engine, torch.no_grad():
        assert [spec.shape[0] for spec in (*engine.inputs, *engine.outputs)] == [None] * (
            len(engine.inputs) + len(engine.outputs)
        )
        feeds = [make_feed(name, batch, seed) for batch in (1, 2, 5) for seed in range(3)]
        if name == "face":
            feeds += [make_feed(name, 2, side_px=side) for side in (32, 96)]
        for feed in feeds:
            want = rounded(*(torch.from_numpy(array) for array in feed.values()))
            got = engine.infer(feed)
            for output, tensor in zip(OUTPUTS[name], want, strict=True):
                np.testing.assert_allclose(got[output], tensor.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_file_is_simple_and_known(files: Path, name: str) -> None:
    """Every shape is noted, no constant is left to compute, no path of this machine is in it."""
    data = (files / f"{name}.onnx").read_bytes()
    assert str(Path(onnx_export.__file__).parent.parent).encode() not in data
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    known = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    assert {out for node in model.graph.node for out in node.output if out} <= known
    assert {node.op_type for node in model.graph.node}.isdisjoint({"Identity", "Constant"})


@pytest.mark.parametrize("name", NETWORKS)
def test_simplifying_changes_no_answer(
    nets: dict[str, nn.Module], files: Path, tmp_path: Path, name: str
) -> None:
    """The file has no more nodes than the tracer wrote, and says the same."""
    raw = tmp_path / "raw.onnx"
    rounded = onnx_export.round_to_fp16(nets[name])
    onnx_export._trace(rounded, make_feed(name, 1), raw, OUTPUTS[name])
    finished = onnx.load(str(files / f"{name}.onnx")).graph.node
    num_nodes = sum(node.op_type != "Cast" for node in finished)
    assert num_nodes <= len(onnx.load(str(raw)).graph.node)
    feed = make_feed(name, 2)
    with OnnxEngine(raw, 1) as before, OnnxEngine(files / f"{name}.onnx", 1) as after:
        want = before.infer(feed)
        for output, value in after.infer(feed).items():
            np.testing.assert_allclose(value, want[output], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_file_holds_fp16_weights(nets: dict[str, nn.Module], files: Path, name: str) -> None:
    """Nearly all of a large file; the arithmetic stays 32-bit."""
    path = files / f"{name}.onnx"
    num_values = sum(p.numel() for p in nets[name].parameters())
    assert path.stat().st_size < 2.05 * num_values + 100_000
    with OnnxEngine(path, 1) as engine:
        assert {spec.dtype for spec in (*engine.inputs, *engine.outputs)} == {"float32"}


def test_network_is_left_alone(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    """Its weights, its batch norms, its mode."""
    voice = nets["voice"]
    before = {name: value.clone() for name, value in voice.state_dict().items()}
    voice.train()
    try:
        export_onnx(voice, make_feed("voice", 1), tmp_path / "voice.onnx")
        assert all(module.training for module in voice.modules())
    finally:
        voice.eval()
    assert all(torch.equal(value, before[name]) for name, value in voice.state_dict().items())


def test_what_is_reported(nets: dict[str, nn.Module], tmp_path: Path) -> None:
    """The example's answers, and both differences on the real inputs that were given."""
    path, example = tmp_path / "voice.onnx", make_feed("voice", 1)
    alone = export_onnx(nets["voice"], example, path)
    real = [make_feed("voice", 3, seed=5), make_feed("voice", 2, seed=6)]
    turned = (dict(reversed(feed.items())) for feed in real)  # names count, not their order
    exported = export_onnx(nets["voice"], example, path, turned)
    assert (alone.num_real, exported.num_real) == (0, 5)
    assert exported.num_parameters == sum(p.numel() for p in nets["voice"].parameters())
    assert exported.num_bytes == path.stat().st_size
    with OnnxEngine(path) as engine:
        np.testing.assert_allclose(exported.golden["logits"], engine.infer(example)["logits"][0])
        assert len(exported.golden["embedding"]) == 256
    rounded = onnx_export.round_to_fp16(nets["voice"])
    largest = 0.0
    with torch.no_grad():
        for feed in real:
            inputs = [torch.from_numpy(array) for array in feed.values()]
            largest = max(
                largest, float((nets["voice"](*inputs)[1] - rounded(*inputs)[1]).abs().max())
            )
    assert exported.rounding_difference["logits"] == pytest.approx(largest)
    assert alone.rounding_difference != exported.rounding_difference
    assert set(exported.onnx_difference) == {"embedding", "logits"}
    assert 0 <= max(exported.onnx_difference.values()) < 1e-3
    described = exported.describe()
    assert described["real_inputs"] == 5
    assert described["rounding_difference"]["logits"] == pytest.approx(largest, rel=0.1)


def corrupt(name: str, value: float) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """A `finish_graph` after which a bias of the graph is full of `value`."""
    finish = onnx_export.finish_graph

    def finish_and_corrupt(model: onnx.ModelProto) -> onnx.ModelProto:
        done = finish(model)
        for tensor in done.graph.initializer:
            if tensor.name.startswith(name):
                values = onnx.numpy_helper.to_array(tensor)
                bad = np.full(values.shape, value, values.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(bad, tensor.name))
        return done

    return finish_and_corrupt


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
    """No file is handed on whose answers are not torch's, in any output."""
    monkeypatch.setattr(onnx_export, "finish_graph", corrupt(tensor, value))
    with pytest.raises(ExportError, match=rf"face\.onnx: {output} differ from torch by .*0\.001"):
        export_onnx(nets["face"], make_feed("face", 1, side_px=32), tmp_path / "face.onnx")


def test_disagreement_on_a_real_input_is_an_error(
    nets: dict[str, nn.Module], tmp_path: Path
) -> None:
    """Even when the example is fine."""
    real = make_feed("voice", 1)
    real["mel"][0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="differ from torch by nan"):
        export_onnx(nets["voice"], make_feed("voice", 1), tmp_path / "voice.onnx", [real])
