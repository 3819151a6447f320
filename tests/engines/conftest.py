"""Tiny networks of the right shapes, made without torch, and bundles of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emotion_edge.engines.bundles import (
    EMBEDDING_SIZE,
    LABELS,
    Bundle,
    FusionEntry,
    Level,
    Manifest,
    ModelEntry,
    Variant,
    write_manifest,
)
from emotion_edge.engines.golden import golden_input
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.kernels.spec import ImageSpec, MelSpec

from .building import Builder
from .fake_cuda import FakeGpu
from .fake_tensorrt import use_fake_tensorrt

onnx = pytest.importorskip("onnx", reason="onnx is in the test extra")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
NUM_FACES = 4


def write_network(path: Path, modality: str, num_labels: int = len(LABELS), seed: int = 7) -> Path:
    """Write a network: the mean over each channel or band, then two linear layers."""
    rng = np.random.default_rng(seed)
    num_in = 3 if modality == "face" else 64

    def constant(name: str, *shape: int) -> object:
        values = rng.standard_normal(shape).astype(np.float32)
        return onnx.numpy_helper.from_array(values, name)

    def tensor(name: str, *shape: int | str) -> object:
        return helper.make_tensor_value_info(name, FLOAT, ["batch", *shape])

    weights = [
        constant("w1", num_in, EMBEDDING_SIZE),
        constant("w2", EMBEDDING_SIZE, num_labels),
    ]
    if modality == "face":
        inputs = [tensor("image", 3, "height", "width")]
        nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0)]
    else:
        inputs = [tensor("mel", 64, 300), tensor("mask", 300)]
        weights.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
        nodes = [
            helper.make_node("Unsqueeze", ["mask", "one"], ["expanded"]),
            helper.make_node("Mul", ["mel", "expanded"], ["masked"]),
            helper.make_node("ReduceMean", ["masked"], ["mean"], axes=[2], keepdims=0),
        ]
    nodes += [
        helper.make_node("MatMul", ["mean", "w1"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "w2"], ["logits"]),
    ]
    outputs = [tensor("embedding", EMBEDDING_SIZE), tensor("logits", num_labels)]
    graph = helper.make_graph(nodes, modality, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def write_fusion_network(path: Path, num_labels: int) -> Path:
    """Write a network: logits from the mean of the masked embeddings; weights are the masks."""
    rng = np.random.default_rng(11)

    def tensor(name: str, *shape: int) -> object:
        return helper.make_tensor_value_info(name, FLOAT, ["batch", *shape])

    def constant(name: str, values: object) -> object:
        return onnx.numpy_helper.from_array(np.array(values), name)

    matrix = rng.standard_normal((EMBEDDING_SIZE, num_labels)).astype(np.float32)
    inputs = [
        tensor("faces", NUM_FACES, EMBEDDING_SIZE),
        tensor("face_mask", NUM_FACES),
        tensor("voice", EMBEDDING_SIZE),
        tensor("voice_mask", 1),
    ]
    make = helper.make_node
    nodes = [
        make("Unsqueeze", ["face_mask", "two"], ["expanded"]),
        make("Mul", ["faces", "expanded"], ["masked_faces"]),
        make("ReduceMean", ["masked_faces"], ["face"], axes=[1], keepdims=0),
        make("Mul", ["voice", "voice_mask"], ["masked_voice"]),
        make("Add", ["face", "masked_voice"], ["both"]),
        make("MatMul", ["both", "w"], ["logits"]),
        make("ReduceMax", ["face_mask"], ["has_face"], axes=[1], keepdims=1),
        make("Concat", ["has_face", "voice_mask"], ["weights"], axis=1),
    ]
    outputs = [tensor("logits", num_labels), tensor("weights", 2)]
    constants = [constant("w", matrix), constant("two", [2])]
    graph = helper.make_graph(nodes, "fusion", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def fields_of(manifest: Manifest) -> dict[str, Any]:
    """The fields that `write_manifest` expects."""
    names = set(manifest.__struct_fields__) - {"format", "files"}
    return {name: getattr(manifest, name) for name in names}


def replace_network(bundle: Bundle, network: str, data: bytes) -> Bundle:
    """Write another file of a network, and the manifest for it."""
    bundle.model_path(network).write_bytes(data)
    return write_manifest(bundle.path, fields_of(bundle.manifest))


def write_bundle_folder(folder: Path, labels: Sequence[str] = LABELS) -> Bundle:
    """Write a valid bundle of both networks."""
    folder.mkdir(exist_ok=True)
    image, mel, levels = ImageSpec(), MelSpec(), [Level("full", 64), Level("low", 32, voice=False)]
    draft = Manifest(1, "tiny", list(labels), image, mel, levels, {}, 0.3, {}, {}, {})
    models = {}
    for modality in ("face", "voice"):
        path = write_network(folder / f"{modality}.onnx", modality, len(labels))
        with OnnxEngine(path, num_threads=1) as engine:
            logits = engine.infer(golden_input(draft, modality))["logits"][0]
        models[modality] = ModelEntry(path.name, 1.5, 0.5, [float(value) for value in logits])
    return write_manifest(folder, {**fields_of(draft), "models": models})


def add_fusion(bundle: Bundle) -> Bundle:
    """Add a fusion network to a bundle."""
    path = write_fusion_network(bundle.path / "fusion.onnx", len(bundle.manifest.labels))
    entry = FusionEntry(path.name, NUM_FACES, 1.3, [], [])
    manifest = msgspec.structs.replace(bundle.manifest, fusion=entry)
    with OnnxEngine(path, num_threads=1) as engine:
        answer = engine.infer(golden_input(manifest, "fusion"))
        entry = msgspec.structs.replace(
            entry,
            golden_logits=answer["logits"][0].tolist(),
            golden_weights=answer["weights"][0].tolist(),
        )
    return write_manifest(bundle.path, {**fields_of(manifest), "fusion": entry})


def add_variant(bundle: Bundle, modality: str = "face") -> Bundle:
    """Add an "INT8" variant to a bundle: another network, with other outputs."""
    num_labels = len(bundle.manifest.labels)
    path = write_network(bundle.path / f"{modality}.int8.onnx", modality, num_labels, seed=8)
    with OnnxEngine(path, num_threads=1) as engine:
        logits = engine.infer(golden_input(bundle.manifest, modality))["logits"][0].tolist()
    models = dict(bundle.manifest.models)
    variants = {"int8": Variant(path.name, logits)}
    models[modality] = msgspec.structs.replace(models[modality], variants=variants)
    return write_manifest(bundle.path, {**fields_of(bundle.manifest), "models": models})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A fake machine with a GPU and TensorRT; engines are cached in tmp_path/"cache"."""
    return use_fake_tensorrt(monkeypatch, tmp_path / "cache")


@pytest.fixture
def builder(bundle: Bundle, gpu: FakeGpu) -> Builder:
    """Builds engines of `bundle` on `gpu`."""
    return Builder(bundle, gpu)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A valid bundle that the test may damage."""
    return write_bundle_folder(tmp_path / "tiny")


@pytest.fixture
def quantized(bundle: Bundle) -> Bundle:
    """A valid bundle whose face network has an INT8 variant."""
    return add_variant(bundle)


@pytest.fixture
def fused(bundle: Bundle) -> Bundle:
    """A valid bundle with all three networks."""
    return add_fusion(bundle)
