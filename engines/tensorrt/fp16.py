"""Conversion of an FP32 network to FP16, as TensorRT computes in the types of the ONNX file.

In and out: the bytes of an ONNX file, whose inputs and outputs stay FP32. INT8 operators stay,
their scales become FP16.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..base import EngineError

if TYPE_CHECKING:
    import onnx

FP32_OPERATORS = ("LSTM", "ReduceSum", "ReduceLogSumExp", "Softmax", "LogSoftmax", "Clip", "Div")
"""Operators that stay FP32: sums over a whole log-mel window exceed the largest FP16 number
(65504), and a recurrence accumulates its rounding. Together they are a small part of the work."""
QDQ_OPSET = 19
"""The first opset whose QuantizeLinear accepts FP16."""


def convert_to_fp16(data: bytes) -> bytes:
    """Convert an ONNX file. Raises EngineError when `data` is not one, or without the package
    onnx."""
    try:
        import onnx
        from onnxruntime.transformers.float16 import (
            DEFAULT_OP_BLOCK_LIST,
            convert_float_to_float16,
        )
    except ImportError as error:
        raise EngineError(
            f"the conversion to FP16 needs the package onnx: {error}; pip install onnx"
        ) from error
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors have no common base
        raise EngineError(f"not an ONNX network: {' '.join(str(error).split())}") from error
    store_weights_as_fp32(model)
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.WARNING)
    blocked = [*DEFAULT_OP_BLOCK_LIST, *FP32_OPERATORS]
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked)
    _connect_fp32_operators(half.graph)
    _sort_nodes(half.graph)
    return bytes(half.SerializeToString())


def _connect_fp32_operators(graph: onnx.GraphProto) -> None:
    """Remove the casts to FP16 between two FP32 operators, in which a sum would overflow."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    fp32_source = {}
    for name, cast in casts.items():
        before = casts.get(cast.input[0])
        if before is not None and (_type_of(before), _type_of(cast)) == ("FLOAT16", "FLOAT"):
            fp32_source[name] = before.input[0]
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = fp32_source.get(name, name)
    for names in (
        fp32_source,
        set(casts) - set(fp32_source),
    ):  # in order: the first read the others
        read = {name for node in graph.node for name in node.input}
        read |= {value.name for value in graph.output}
        for name in names:
            if name not in read:
                graph.node.remove(casts[name])


def _type_of(cast: onnx.NodeProto) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(cast.attribute[0].i))


def _sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort topologically, as ONNX requires: the converter appends its casts at the end."""
    known = {"", *(value.name for value in (*graph.input, *graph.initializer))}
    waiting = list(graph.node)
    del graph.node[:]
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)] or waiting
        graph.node.extend(ready)
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not known.issuperset(node.output)]


def store_weights_as_fp32(model: onnx.ModelProto) -> None:
    """Store FP16 weights that are cast to FP32 as FP32, in place, without the casts."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        tensor = stored.get(node.input[0])
        if tensor is None or tensor.data_type != TensorProto.FLOAT16:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
        if not any(tensor.name in other.input for other in graph.node):
            graph.initializer.remove(tensor)
