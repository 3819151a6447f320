"""An exported graph made ready for the device: simplified, of half the size, with known shapes.

In and out: an ONNX model. The arithmetic is the same at every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxslim
from onnx import TensorProto, helper, numpy_helper

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
