"""Checkpoint to device: ONNX files with a free batch size, compared with torch, in a bundle."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..engines.bundle import LABELS, Bundle, Level, Manifest, ModelEntry, write_manifest
from ..engines.golden import golden_input
from ..engines.onnx_engine import OnnxEngine
from ..kernels.spec import ImageSpec, MelSpec

log = logging.getLogger(__name__)

OPSET = 17
MIN_HALVED_VALUES = 64
MAX_DIFFERENCE = 0.02
"""Of a logit between torch and the ONNX file, whose weights are rounded to 16 bits."""


class _Probe(nn.Module):
    """A network with its outputs in the order of the ONNX file."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        embedding, logits = self.model(*inputs)
        return embedding, logits


def export_onnx(
    model: nn.Module, example: Mapping[str, np.ndarray[Any, Any]], path: Path
) -> np.ndarray[Any, Any]:
    """Write `model` to `path` with weights stored as float16 -> its logits for `example` (7,).

    Raises RuntimeError when ONNX Runtime and torch disagree.
    """
    # The exporter puts back the mode it finds, on all that is inside.
    probe = _Probe(model).eval()
    inputs = tuple(torch.from_numpy(array) for array in example.values())
    axes = {name: {0: "batch"} for name in (*example, "embedding", "logits")}
    if "image" in example:
        axes["image"] |= {2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's remarks on constants
        torch.onnx.export(
            probe,
            inputs,
            str(path),
            input_names=list(example),
            output_names=["embedding", "logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        want = probe(*inputs)[1].numpy()
    graph = onnx.load(str(path))
    halve_weights(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))
    with OnnxEngine(path) as engine:
        got = engine.infer(example)["logits"].copy()
    difference = float(np.abs(got - want).max())
    if not difference <= MAX_DIFFERENCE:
        raise RuntimeError(f"{path.name}: logits differ from torch by {difference:.4f}")
    log.info("%s: %d bytes, logits within %.4f", path.name, path.stat().st_size, difference)
    return np.asarray(got[0])


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 weights as float16 and cast them back when the model is loaded.

    The arithmetic stays float32 (the runtime folds the casts away); only the file is halved.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < MIN_HALVED_VALUES:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        cast = helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT)
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        graph.node.insert(0, cast)


def write_bundle(
    folder: Path,
    models: Mapping[str, nn.Module],
    temperatures: Mapping[str, float],
    fusion_weights: Mapping[str, float],
    levels: list[Level],
    image: ImageSpec,
    mel: MelSpec,
    abstain_below: float,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Export every network and write the manifest; `models` by modality."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = Manifest(
        format=1,
        name=folder.name,
        labels=list(LABELS),
        image=image,
        mel=mel,
        levels=levels,
        models={},
        abstain_below=abstain_below,
        files={},
        metrics=dict(metrics),
        provenance=dict(provenance),
    )
    entries = {}
    for modality, model in models.items():
        file = f"{modality}.onnx"
        logits = export_onnx(model, golden_input(draft, modality), folder / file)
        entries[modality] = ModelEntry(
            file,
            temperatures[modality],
            fusion_weights[modality],
            [round(float(value), 5) for value in logits],
        )
    fields = {name: getattr(draft, name) for name in draft.__struct_fields__}
    del fields["format"], fields["files"]
    return write_manifest(folder, {**fields, "models": entries})
