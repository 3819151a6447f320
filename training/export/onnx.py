"""Export of a trained network to ONNX, verified against torch.

In: a network in FP32 and inputs. Out: an ONNX file of half the size, with any batch size, and how
far its outputs are from those of torch.

The weights are rounded to FP16 and stored as FP16, while the arithmetic stays FP32. The file is
compared with the rounded network, and the rounded network with the trained one.
"""

from __future__ import annotations

import logging
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxslim
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ...engines.onnx_runtime import OnnxEngine
from ..errors import TrainingError

log = logging.getLogger(__name__)

OPSET = 17
MAX_DIFFERENCE = 1e-3
"""Largest allowed difference of an output between the file and torch with rounded weights."""
BATCHES = (1, 2, 5)
"""Batch sizes of the comparison."""
OUTPUTS = ("embedding", "logits")
MIN_FP16_VALUES = 64
"""Smaller tensors stay FP32, because the cast node costs what they save."""

Arrays = Mapping[str, NDArray[np.float32]]
"""Inputs or outputs of a network, by name."""


class ExportError(TrainingError):
    """A network or bundle must not be used; the message has one line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of the export of one network."""

    golden: dict[str, list[float]]
    """Outputs for the example."""
    onnx_difference: dict[str, float]
    """Largest difference between the file and torch with rounded weights, by output."""
    rounding_difference: dict[str, float]
    """Largest difference between trained and rounded weights, by output: on the real inputs, or on
    the example without any."""
    num_real: int
    """Number of compared real inputs."""
    num_parameters: int
    num_bytes: int

    def describe(self) -> dict[str, Any]:
        """Return the entry for the metrics of a bundle."""

        def shorten(differences: Mapping[str, float]) -> dict[str, float]:
            return {name: float(f"{value:.2g}") for name, value in differences.items()}

        return {
            "parameters": self.num_parameters,
            "bytes": self.num_bytes,
            "real_inputs": self.num_real,
            "onnx_difference": shorten(self.onnx_difference),
            "rounding_difference": shorten(self.rounding_difference),
        }


def export_onnx(
    model: nn.Module,
    example: Arrays,
    path: Path,
    real: Iterable[Arrays] = (),
    outputs: Sequence[str] = OUTPUTS,
) -> Exported:
    """Write `model` to `path` with weights stored as FP16, and compare the file with torch.

    `example` (a batch of one) and `real` (batches of any size) are inputs by name, `example` in
    the order of `model`'s arguments; `outputs` names what it returns. The batch size is dynamic,
    and so are height and width of an "image". `model` is not changed. Raises ExportError when the
    outputs of the file differ from those of torch.
    """
    real_inputs: list[Arrays] = [{name: inputs[name] for name in example} for inputs in real]
    rounded, trained = round_to_fp16(model), deepcopy(model).eval()
    _trace(rounded, example, path, outputs)
    onnx.save(finish_graph(onnx.load(str(path))), str(path))
    onnx_difference = dict.fromkeys(outputs, 0.0)
    rounding_difference = dict.fromkeys(outputs, 0.0)
    with OnnxEngine(path) as engine:
        golden = {name: engine.infer(example)[name].reshape(-1).tolist() for name in outputs}
        for inputs in (*(_repeat(example, batch) for batch in BATCHES), *real_inputs):
            _update_max(onnx_difference, engine.infer(inputs), _run_torch(rounded, inputs, outputs))
    for inputs in real_inputs or [example]:
        _update_max(
            rounding_difference,
            _run_torch(trained, inputs, outputs),
            _run_torch(rounded, inputs, outputs),
        )
    for name, difference in onnx_difference.items():
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"{path.name}: {name} differs from torch by {difference:.2g}, allowed:"
                f" {MAX_DIFFERENCE}"
            )
    exported = Exported(
        golden,
        onnx_difference,
        rounding_difference,
        sum(len(next(iter(inputs.values()))) for inputs in real_inputs),
        sum(parameter.numel() for parameter in model.parameters()),
        path.stat().st_size,
    )
    log.info("%s: %s", path.name, exported.describe())
    return exported


@torch.no_grad()
def round_to_fp16(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose weights are exact in FP16.

    Batch norms are fused into the layer before them first, as in the exported graph, which stores
    the product. Small tensors, and tensors with a value outside the range of FP16, are unchanged.
    """
    copy = deepcopy(model).eval()  # norms can be fused in eval mode only
    for module in copy.modules():
        if isinstance(module, nn.Sequential):
            _fuse_norms(module)
    for parameter in copy.parameters():
        if parameter.numel() >= MIN_FP16_VALUES:
            rounded = parameter.half().float()
            if bool(torch.isfinite(rounded).all()):
                parameter.copy_(rounded)
    return copy.eval()


def finish_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify a graph, store its weights as FP16, infer all shapes, shorten the names of its
    tensors, and check it.

    The outputs do not change. Raises the errors of `onnx.checker` for an invalid graph.
    """
    model = simplify(model)
    store_weights_as_fp16(model)
    model = infer_shapes(model)
    shorten_names(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with constants folded and without redundant nodes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    slim: onnx.ModelProto = onnxslim.slim(copy)
    return slim


def store_weights_as_fp16(model: onnx.ModelProto) -> None:
    """Store FP32 weights as FP16 where that is exact, with a cast back to FP32.

    The arithmetic stays FP32, because the runtime folds the casts on loading.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if not _is_exact_in_fp16(values):
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        cast = helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT)
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        graph.node.insert(0, cast)


def shorten_names(model: onnx.ModelProto) -> None:
    """Give the tensors inside a network names of one to three letters, in place. A tenth of a small
    network's file is names; those of inputs, outputs and nodes stay."""
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # the graphs of branches and loops use these names too
    kept = {value.name for value in (*graph.input, *graph.output)}
    unused = (
        name
        for length in count(1)
        for name in map("".join, product(string.ascii_letters, repeat=length))
        if name not in kept
    )
    short = {"": "", **{name: name for name in kept}}
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name not in short:
                    short[name] = next(unused)
                names[index] = short[name]
    for value in (*graph.initializer, *graph.value_info):
        if value.name in short:
            value.name = short[value.name]


def strip_names(model: onnx.ModelProto) -> None:
    """Remove what only a quantization of the network would read, in place: names of nodes, shapes
    inside, and long names of tensors."""
    shorten_names(model)
    for node in model.graph.node:
        node.name = ""
    del model.graph.value_info[:]


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with the shape of every intermediate value."""
    del model.graph.value_info[:]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    return inferred


def _is_exact_in_fp16(values: np.ndarray[Any, Any]) -> bool:
    if values.size < MIN_FP16_VALUES:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _fuse_norms(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        layer, norm = layers[i], layers[i + 1]
        if isinstance(layer, nn.Conv1d | nn.Conv2d) and isinstance(
            norm, nn.BatchNorm1d | nn.BatchNorm2d
        ):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            layers[i], layers[i + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()


def _trace(model: nn.Module, example: Arrays, path: Path, outputs: Sequence[str]) -> None:
    inputs = tuple(torch.from_numpy(array) for array in example.values())
    axes = {name: {0: "batch"} for name in (*example, *outputs)}
    if "image" in example:
        axes["image"] |= {2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns about constants
        torch.onnx.export(
            model,
            inputs,
            str(path),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _run_torch(model: nn.Module, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
    values = model(*(torch.from_numpy(array) for array in inputs.values()))
    return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}


def _repeat(inputs: Arrays, batch: int) -> Arrays:
    """Make a batch of `batch` different examples out of one."""
    return {
        name: np.concatenate([np.roll(array, 7 * i, axis=-1) for i in range(batch)])
        for name, array in inputs.items()
    }


def _update_max(differences: dict[str, float], first: Arrays, second: Arrays) -> None:
    """Raise each difference to the largest one of its output; a NaN stays."""
    for name, largest_so_far in differences.items():
        largest = np.abs(first[name] - second[name]).max()
        differences[name] = float(np.maximum(largest_so_far, largest))
