"""Trained network to ONNX file: a free batch size, 16-bit weights, answers compared with torch.

An exported graph made ready for the device: simplified, of half the size, with known shapes.

In and out: an ONNX model. The arithmetic is the same at every step.

Weights rounded to what 16 bits can hold, while the arithmetic stays 32-bit.

In: a network in float32. Out: a copy of it whose weights a float16 file holds exactly, so that
the file can be compared with the copy to the last digits, and the copy with the network.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
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


MIN_FP16_VALUES = 64
"""Smaller tensors are left: a node more would cost what it saves."""


def finish_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify, halve, infer and check. Raises what `onnx.checker` raises on a broken graph."""
    model = simplify(model)
    store_weights_as_fp16(model)
    model = infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants folded, nodes that do nothing taken out. `model` is left alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    slim: onnx.ModelProto = onnxslim.slim(copy)
    return slim


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write down the shape of every value in between."""
    del model.graph.value_info[:]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    return inferred


def is_exact_in_fp16(values: np.ndarray[Any, Any]) -> bool:
    """Whether float32 `values` are worth storing as float16, and lose nothing by it."""
    if values.size < MIN_FP16_VALUES:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def store_weights_as_fp16(model: onnx.ModelProto) -> None:
    """Store float32 weights as float16 where that is exact, and cast them back on loading.

    The arithmetic stays float32 (the runtime folds the casts away); only the file is halved.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if not is_exact_in_fp16(values):
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        cast = helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT)
        graph.initializer.remove(tensor)
        graph.initializer.append(half)
        graph.node.insert(0, cast)


@torch.no_grad()
def round_to_fp16(model: nn.Module) -> nn.Module:
    """A copy in eval mode; `model` is left alone.

    Batch norms become part of the layer before them first, as they do in the exported graph:
    what is stored is their product. Small tensors, and any with a value that float16 lacks, stay
    as they are.
    """
    copy = deepcopy(model).eval()  # or the norms could not be fused
    for module in copy.modules():
        if isinstance(module, nn.Sequential):
            _fuse_norms(module)
    for parameter in copy.parameters():
        if parameter.numel() >= MIN_FP16_VALUES:
            rounded = parameter.half().float()
            if bool(torch.isfinite(rounded).all()):
                parameter.copy_(rounded)
    return copy.eval()


def _fuse_norms(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        layer, norm = layers[i], layers[i + 1]
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[i], layers[i + 1] = fuse_conv_bn_eval(layer, norm), nn.Identity()
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            layers[i], layers[i + 1] = fuse_linear_bn_eval(layer, norm), nn.Identity()


OPSET = 17
MAX_DIFFERENCE = 1e-3
"""Of any output between torch, its weights rounded as in the file, and the file."""
BATCHES = (1, 2, 5)
"""Batch sizes in which every network is tried."""
OUTPUTS = ("embedding", "logits")

Feed = Mapping[str, NDArray[np.float32]]
Answer = Mapping[str, NDArray[np.float32]]


class ExportError(TrainingError):
    """A network or a bundle that must not be handed on; one line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What one network became."""

    golden: dict[str, list[float]]
    """Each output for the example."""
    onnx_difference: dict[str, float]
    """Largest between the file and torch with rounded weights, by output."""
    rounding_difference: dict[str, float]
    """Largest between weights as trained and rounded to 16 bits, by output; on the real inputs,
    or on the example when there are none."""
    num_real: int
    """How many real inputs were compared."""
    num_parameters: int
    num_bytes: int

    def describe(self) -> dict[str, Any]:
        """For the metrics of a bundle."""

        def brief(differences: Mapping[str, float]) -> dict[str, float]:
            return {name: float(f"{value:.2g}") for name, value in differences.items()}

        return {
            "parameters": self.num_parameters,
            "bytes": self.num_bytes,
            "real_inputs": self.num_real,
            "onnx_difference": brief(self.onnx_difference),
            "rounding_difference": brief(self.rounding_difference),
        }


def export_onnx(
    model: nn.Module,
    example: Feed,
    path: Path,
    real: Iterable[Feed] = (),
    outputs: Sequence[str] = OUTPUTS,
) -> Exported:
    """Write `model` to `path`, its weights stored as float16, and compare the file with torch.

    `example` (a batch of one) and `real` (batches of any size) are inputs by name, `example` in
    the order of `model`'s arguments; `outputs` names what it returns. The batch size of all of
    them is free, and so are height and width of an "image". `model` is left alone. Raises
    ExportError when the file's answers are not torch's.
    """
    given: list[Feed] = [{name: feed[name] for name in example} for feed in real]
    rounded, trained = round_to_fp16(model), deepcopy(model).eval()
    _trace(rounded, example, path, outputs)
    onnx.save(finish_graph(onnx.load(str(path))), str(path))
    from_file, from_rounding = dict.fromkeys(outputs, 0.0), dict.fromkeys(outputs, 0.0)
    with OnnxEngine(path) as engine:
        golden = {name: engine.infer(example)[name].reshape(-1).tolist() for name in outputs}
        for feed in (*(_repeat(example, batch) for batch in BATCHES), *given):
            _widen(from_file, engine.infer(feed), _run_session(rounded, feed, outputs))
    for feed in given or [example]:
        _widen(
            from_rounding,
            _run_session(trained, feed, outputs),
            _run_session(rounded, feed, outputs),
        )
    for name, difference in from_file.items():
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"{path.name}: {name} differ from torch by {difference:.2g},"
                f" {MAX_DIFFERENCE} allowed"
            )
    exported = Exported(
        golden,
        from_file,
        from_rounding,
        sum(len(next(iter(feed.values()))) for feed in given),
        sum(parameter.numel() for parameter in model.parameters()),
        path.stat().st_size,
    )
    log.info("%s: %s", path.name, exported.describe())
    return exported


def _trace(model: nn.Module, example: Feed, path: Path, outputs: Sequence[str]) -> None:
    inputs = tuple(torch.from_numpy(array) for array in example.values())
    axes = {name: {0: "batch"} for name in (*example, *outputs)}
    if "image" in example:
        axes["image"] |= {2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's remarks on constants
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
def _run_session(model: nn.Module, feed: Feed, outputs: Sequence[str]) -> Answer:
    answers = model(*(torch.from_numpy(array) for array in feed.values()))
    return {name: value.numpy() for name, value in zip(outputs, answers, strict=True)}


def _repeat(feed: Feed, batch: int) -> Feed:
    """`batch` examples out of one, no two of them alike."""
    return {
        name: np.concatenate([np.roll(array, 7 * i, axis=-1) for i in range(batch)])
        for name, array in feed.items()
    }


def _widen(differences: dict[str, float], answer: Answer, other: Answer) -> None:
    """Take in the largest difference of each output; a NaN stays."""
    for name, so_far in differences.items():
        largest = np.abs(answer[name] - other[name]).max()
        differences[name] = float(np.maximum(so_far, largest))
