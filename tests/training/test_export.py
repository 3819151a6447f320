"""From a checkpoint to the device: ONNX files of half the size that answer as torch does."""

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

from emotion_edge.engines import open_engine
from emotion_edge.engines.bundle import Bundle, Level, load_bundle
from emotion_edge.engines.golden import prove_engine
from emotion_edge.engines.onnx_engine import OnnxEngine
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training import export
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.voice import VoiceNet

Nets = dict[str, nn.Module]


@pytest.fixture(scope="module")
def nets(settle: Callable[..., None]) -> Nets:
    """Both networks at their real size, untrained."""
    torch.manual_seed(0)
    face, voice = FaceNet(), VoiceNet()
    settle(face, torch.randn(8, 3, 64, 64))
    settle(voice, torch.randn(2, 64, 300), torch.ones(2, 300))
    return {"face": face, "voice": voice}


@pytest.fixture(scope="module")
def bundle(nets: Nets, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export.write_bundle(
        tmp_path_factory.mktemp("bundles") / "untrained",
        nets,
        temperatures={"face": 1.2, "voice": 0.8},
        fusion_weights={"face": 0.6, "voice": 0.4},
        levels=[Level("high", 64), Level("low", 32)],
        image=ImageSpec(),
        mel=MelSpec(),
        abstain_below=0.3,
        metrics={"accuracy": None},
        provenance={"recipe": "none"},
    )


def test_bundle_is_good_and_small(bundle: Bundle) -> None:
    """It loads, says what it was given, and is far below 16 MB."""
    assert load_bundle(bundle.path) == bundle
    manifest = bundle.manifest
    assert manifest.name == "untrained"
    assert manifest.models["face"].temperature == 1.2
    assert manifest.models["voice"].fusion_weight == 0.4
    assert [level.name for level in manifest.levels] == ["high", "low"]
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) < 12e6


@pytest.mark.parametrize("modality", ["face", "voice"])
def test_bundle_proves_itself_and_equals_torch(bundle: Bundle, nets: Nets, modality: str) -> None:
    """On the golden input, and for batches of other inputs and other sizes of picture."""
    with open_engine("onnx", bundle, modality, 1) as engine:
        prove_engine(engine, bundle, modality)
        for batch, side in ((1, 64), (3, 64), (2, 32), (1, 96)):
            if modality == "face":
                feed = {"image": torch.randn(batch, 3, side, side)}
            else:
                mask = torch.ones(batch, 300)
                mask[0, :200] = 0
                feed = {"mel": torch.randn(batch, 64, 300), "mask": mask}
            with torch.no_grad():
                want = nets[modality](*feed.values())
            got = engine.infer({name: tensor.numpy() for name, tensor in feed.items()})
            for name, tensor in zip(("embedding", "logits"), want, strict=True):
                # Weights of eleven bits (2.4e-4 each), added up over 50 untrained layers.
                error = np.abs(got[name] - tensor.numpy()).max()
                assert error < 0.03 * tensor.abs().max(), name


def test_export_leaves_the_network_alone(nets: Nets, tmp_path: Path) -> None:
    """Its weights, its batch norms and its answers are those of before."""
    voice = nets["voice"]
    before = {name: value.clone() for name, value in voice.state_dict().items()}
    example = {"mel": np.ones((1, 64, 300), np.float32), "mask": np.ones((1, 300), np.float32)}
    inputs = [torch.from_numpy(array) for array in example.values()]
    with torch.no_grad():
        want = voice(*inputs)[1]
        logits = export.export_onnx(voice, example, tmp_path / "voice.onnx")
        assert not any(module.training for module in voice.modules())
        assert torch.equal(voice(*inputs)[1], want)
    assert all(torch.equal(value, before[name]) for name, value in voice.state_dict().items())
    np.testing.assert_allclose(logits, want[0], rtol=0, atol=export.MAX_DIFFERENCE)


def test_halved_weights(nets: Nets, bundle: Bundle) -> None:
    """Nearly all of the file is 16-bit weights; the arithmetic stays 32-bit."""
    num_values = sum(p.numel() for p in nets["face"].parameters())
    path = bundle.model_path("face")
    assert path.stat().st_size < 2.2 * num_values
    with OnnxEngine(path, 1) as engine:
        assert {spec.dtype for spec in (*engine.inputs, *engine.outputs)} == {"float32"}


def test_values_that_no_half_holds_stay_whole(tmp_path: Path) -> None:
    """Too large ones, small tensors and whole numbers are left; the rest is rounded, no more."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "plain": rng.standard_normal((8, 16)).astype(np.float32),
        "large": np.full((8, 16), 1e6, np.float32),
        "small": np.full(3, 0.1, np.float32),
        "whole": np.arange(100),
    }
    make_node, make_info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [make_node("Identity", [name], [f"{name}_out"]) for name in constants],
        "constants",
        [],
        [
            make_info(f"{name}_out", onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for name, v in constants.items()
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", export.OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    export.halve_weights(model)
    onnx.checker.check_model(model)
    halved = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert halved == {"plain.half"}
    outputs = ort.InferenceSession(model.SerializeToString()).run(None, {})
    for value, out in zip(constants.values(), outputs, strict=True):
        np.testing.assert_allclose(out, value, rtol=1e-3, atol=1e-6)
        assert out.dtype == value.dtype
    np.testing.assert_array_equal(outputs[1], constants["large"])


def test_disagreement_is_an_error(
    nets: Nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is handed on whose answers are not torch's."""
    halve = export.halve_weights

    def halve_and_spoil(model: onnx.ModelProto) -> None:
        halve(model)
        for tensor in model.graph.initializer:
            if tensor.name.startswith("model.classifier.bias"):
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(7, np.float32), tensor.name))

    monkeypatch.setattr(export, "halve_weights", halve_and_spoil)
    example = {"mel": np.ones((1, 64, 300), np.float32), "mask": np.ones((1, 300), np.float32)}
    with pytest.raises(RuntimeError, match=r"voice\.onnx: logits differ from torch by"):
        export.export_onnx(nets["voice"], example, tmp_path / "voice.onnx")
