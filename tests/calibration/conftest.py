"""Toy networks with known sensitive layers, samples for them, a bundle and data sets."""

from __future__ import annotations

import csv
import wave
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is in the train extra")
pytest.importorskip("torch", reason="torch is in the train extra")
import onnx

from emotion_edge.calibration.divergence import compute_logits
from emotion_edge.calibration.samples import Samples
from emotion_edge.engines.bundles import (
    EMBEDDING_SIZE,
    LABELS,
    Bundle,
    Level,
    Manifest,
    ModelEntry,
    write_manifest,
)
from emotion_edge.engines.golden import golden_input
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.data.ferplus import VOTES
from emotion_edge.training.data.ravdess import TEST_FOLDS

FLOAT = onnx.TensorProto.FLOAT
STRETCH = 1000.0
SEEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
MakeNetwork = Callable[..., bytes]


def draw_samples(network: str, num: int = 48, seed: int = 0, side: int = 16) -> Samples:
    """Draw samples of different colors or loud bands; some faces have a pixel of 3, an outlier."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"{network}/{i}" for i in range(num))
    if network == "voice":
        bands = rng.uniform(-1, 1, (num, 64, 1)) + rng.normal(0, 0.2, (num, 64, 300))
        mask = np.ones((num, 300), np.float32)
        mask[::4, 100:] = 0
        return Samples(ids, {"mel": bands.astype(np.float32), "mask": mask})
    colors = rng.uniform(-1, 1, (num, 3, 1, 1))
    image = (colors + rng.normal(0, 0.2, (num, 3, side, side))).clip(-1.8, 1.8)
    for i in range(0, num, 12):
        image[i, 0, side // 2, side // 2] = 3.0
    return Samples(ids, {"image": image.astype(np.float32)})


def build_network(
    network: str = "face", trap: str = "", seed: int = 3, num_labels: int = len(LABELS)
) -> bytes:
    """Build a network of a few convolutions, one with a residual sum, and two linear layers.

    Weights are exact in FP16, and each label is predicted for some samples. `trap` makes the input
    of the face network's layer "mix" hard to quantize: "rare" outliers of 1000 that change no
    output, or one channel that is "always" a thousand times the others and equally important.
    """
    bias = np.zeros(num_labels)
    model = _assemble(network, trap, seed, bias)
    logits = compute_logits(model, draw_samples(network).batches(16))
    return _assemble(network, trap, seed, -logits.mean(axis=0))


def _assemble(network: str, trap: str, seed: int, head_bias: Any) -> bytes:
    rng = np.random.default_rng(seed)
    make = onnx.helper.make_node

    def draw(*shape: int) -> Any:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)

    stretch = np.ones((1, 8, 1, 1))
    mix = draw(8, 8, 1, 1)
    stem, stem_bias = draw(8, 3, 3, 3), draw(8, 1)[:, 0]
    if trap:
        stretch[0, 0] = STRETCH
    if trap == "always":
        mix[:, 0] /= STRETCH
    if trap == "rare":  # only outliers of 3 reach the channel, and no weight reads it
        stem[0], stem_bias[0], mix[:, 0] = 0.0, -2.0, 0.0
        stem[0, 0, 1, 1] = 1.0
    values = {"embed.w": 4 * draw(EMBEDDING_SIZE, 8), "embed.b": draw(EMBEDDING_SIZE, 1)[:, 0]}
    values |= {"head.w": draw(len(head_bias), EMBEDDING_SIZE).T, "head.b": head_bias}
    if network == "face":
        inputs = [_tensor("image", 3, "height", "width")]
        values |= {"stem.w": stem, "stem.b": stem_bias, "mix.w": mix, "stretch": stretch}
        nodes = [
            make("Conv", ["image", "stem.w", "stem.b"], ["a"], name="stem", pads=[1, 1, 1, 1]),
            make("Relu", ["a"], ["seen"]),
            make("Mul", ["seen", "stretch"], ["stretched"]),
            make("Conv", ["stretched", "mix.w"], ["mixed"], name="mix"),
            make("Conv", ["seen", "side.w"], ["sided"], name="side"),
            make("Add", ["mixed", "sided"], ["both"]),
            make("Add", ["both", "seen"], ["all"]),
            make("GlobalAveragePool", ["all"], ["mean"]),
            make("Flatten", ["mean"], ["flat"]),
        ]
        values["side.w"] = draw(8, 8, 1, 1)
        if trap == "rare":
            values["side.w"][:, 0] = 0.0
    else:
        inputs = [_tensor("mel", 64, 300), _tensor("mask", 300)]
        values["hear.w"] = draw(8, 64, 3)
        nodes = [
            make("Unsqueeze", ["mask", "one"], ["shown"]),
            make("Mul", ["mel", "shown"], ["heard"]),
            make("Conv", ["heard", "hear.w"], ["a"], name="hear", pads=[1, 1]),
            make("Relu", ["a"], ["b"]),
            make("ReduceSum", ["b", "last"], ["sum"], keepdims=0),
            make("ReduceSum", ["mask", "one"], ["num"], keepdims=1),
            make("Div", ["sum", "num"], ["flat"]),
        ]
    nodes += [
        make("Gemm", ["flat", "embed.w", "embed.b"], ["embedding"], name="embed", transB=1),
        make("MatMul", ["embedding", "head.w"], ["c"], name="head"),
        make("Add", ["c", "head.b"], ["logits"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(value, np.float16).astype(np.float32), name)
        for name, value in values.items()
    ]
    if network == "voice":
        constants.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
        constants.append(onnx.numpy_helper.from_array(np.array([2]), "last"))
    outputs = [_tensor("embedding", EMBEDDING_SIZE), _tensor("logits", len(head_bias))]
    graph = onnx.helper.make_graph(nodes, network, inputs, outputs, constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _tensor(name: str, *shape: int | str) -> Any:
    return onnx.helper.make_tensor_value_info(name, FLOAT, ["batch", *shape])


@pytest.fixture
def make_network() -> MakeNetwork:
    """`build_network`."""
    return build_network


@pytest.fixture
def make_samples() -> Callable[..., Samples]:
    """`draw_samples`."""
    return draw_samples


def write_toy_bundle(
    folder: Path, networks: Mapping[str, bytes], labels: Sequence[str] = LABELS
) -> Bundle:
    """Write a bundle of FP32 networks, with earlier metrics and provenance."""
    folder.mkdir()
    image, mel, levels = ImageSpec(), MelSpec(), [Level("full", 48), Level("low", 32)]
    draft = Manifest(1, "toy", list(labels), image, mel, levels, {}, 0.3, {}, {}, {})
    models = {}
    for name, data in networks.items():
        (folder / f"{name}.onnx").write_bytes(data)
        logits = compute_logits(data, [golden_input(draft, name)])[0]
        models[name] = ModelEntry(f"{name}.onnx", 1.5, 0.5, logits.tolist())
    fields = {name: getattr(draft, name) for name in draft.__struct_fields__}
    del fields["format"], fields["files"]
    fields["metrics"] = {"earlier": {"accuracy": 0.5}}
    fields["provenance"] = {"earlier": "kept"}
    return write_manifest(folder, {**fields, "models": models})


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """A function (networks by name) -> an FP32 bundle of them in tmp_path / "plain"."""

    def write(**networks: bytes) -> Bundle:
        return write_toy_bundle(tmp_path / "plain", networks)

    return write


@pytest.fixture
def bundle(write_bundle: Callable[..., Bundle]) -> Bundle:
    """An FP32 bundle of a face and a voice network without traps."""
    return write_bundle(face=build_network("face"), voice=build_network("voice"))


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same for tests that do not change it."""
    networks = {name: build_network(name) for name in ("face", "voice")}
    return write_toy_bundle(tmp_path_factory.mktemp("bundle") / "toy", networks)


@pytest.fixture(scope="session")
def ferplus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER+ with 70 faces in train and 21 in valid, whose brightness depends on the label."""
    root = tmp_path_factory.mktemp("ferplus")
    for split, num_faces in (("train", 70), ("valid", 21)):
        rng = np.random.default_rng(num_faces)
        with (
            zipfile.ZipFile(root / f"{split}.zip", "w") as archive,
            (root / f"{split}.csv").open("w", newline="") as file,
        ):
            table = csv.DictWriter(file, ["file", *VOTES], restval=0)
            table.writeheader()
            for i in range(num_faces):
                bright = 30 + 30 * (i % len(SEEN))
                pixels = np.clip(rng.normal(bright, 20, (48, 48)), 0, 255).astype(np.uint8)
                archive.writestr(f"{i}.png", cv2.imencode(".png", pixels)[1].tobytes())
                table.writerow({"file": f"{i}.png", SEEN[i % len(SEEN)]: 10})
    return root


@pytest.fixture(scope="session")
def ravdess_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS with four short recordings of each actor of the folds, a tone for each emotion."""
    root = tmp_path_factory.mktemp("ravdess")
    t = np.arange(9_600) / 16_000
    for actor in (actor for fold in TEST_FOLDS for actor in fold):
        for place, code in enumerate(("01", "03", "05", "08")):
            audio = 0.3 * np.sin(2 * np.pi * (300 * 2**place + actor) * t)
            with wave.open(str(root / f"03-01-{code}-01-01-01-{actor:02}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes((audio * 32_000).astype("<i2").tobytes())
    return root
