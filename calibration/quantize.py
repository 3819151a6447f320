"""Explicit INT8: quantise and dequantise operators on the inputs of weighted operators.

In: a network of 32-bit numbers and the range of each tensor. Out: one whose weights are 8-bit per
channel and whose activations are symmetric 8-bit per tensor, as TensorRT wants them. Outputs are
not quantised, so that what follows sees them whole. ONNX Runtime's quantiser does the work; the
ranges come from `ranges`, because its own calibrators need every batch to be alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ..engines.tensorrt import QDQ_OPSET, store_weights_as_fp32
from ..training.export import store_weights_as_fp16
from .errors import CalibrationError
from .ranges import WEIGHTED, find_weighted

IR_VERSION = 9
"""Of opset 19; a later one would shut out older ONNX Runtimes."""


def read_network(data: bytes, name: str) -> onnx.ModelProto:
    """A network ready to be quantised: weights of 32 bits, and an opset whose quantise operators
    also take 16-bit numbers. Raises CalibrationError."""
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        store_weights_as_fp32(model)
        model = version_converter.convert_version(model, QDQ_OPSET)
    except Exception as error:  # protobuf's, the checker's and the converter's share no base
        raise CalibrationError(
            f"{name}: no ONNX network: {' '.join(str(error).split())}"
        ) from error
    model.ir_version = IR_VERSION
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    nameless = [node.op_type for node in weighted if not node.name]
    if nameless:
        raise CalibrationError(f"{name}: a {nameless[0]} operator has no name to call it by")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise CalibrationError(f"{name}: is quantised already")
    return model


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, float], layers: Collection[str]
) -> onnx.ModelProto:
    """`layers` are the names of the weighted operators to be quantised; their input tensors must
    be in `ranges`. `model`, from `read_network`, is left alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    reads = find_weighted(copy)
    missing = [name for name in layers if reads.get(name) not in ranges]
    if missing:
        raise CalibrationError(
            f"layer {missing[0]}: no range for its input {reads.get(missing[0])}"
        )
    if not layers:  # which the quantiser would take for all of them
        return copy
    limits = {
        reads[name]: (np.float32(-ranges[reads[name]]), np.float32(ranges[reads[name]]))
        for name in layers
    }
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=sorted(layers),
        nodes_to_exclude=[],
        op_types_to_quantize=list(WEIGHTED),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
            "QuantizeBias": False,
        },
    )
    quantizer.quantize_model()
    _keep_exact_for_other_consumers(quantizer.model.model, layers)
    quantizer.model.topological_sort()
    return quantizer.model.model


def _keep_exact_for_other_consumers(model: onnx.ModelProto, layers: Collection[str]) -> None:
    """ONNX Runtime's quantiser shows the rounded tensor to all that read it: sums that go round a
    layer, layers that were spared, and who asks for the output. Only `layers` are to see it."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    quantized = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    exact_of = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized:
            exact_of[node.output[0]] = quantized[node.input[0]].input[0]
    # The rounded one has taken the name of an output.
    swapped = {name: exact for name, exact in exact_of.items() if name in outputs}
    swapped |= {exact: name for name, exact in swapped.items()}
    for node in graph.node:
        reads_exact = node.op_type != "DequantizeLinear" and node.name not in layers
        for i, name in enumerate(node.input):
            wanted = exact_of.get(name, name) if reads_exact else name
            node.input[i] = swapped.get(wanted, wanted)
        for i, name in enumerate(node.output):
            node.output[i] = swapped.get(name, name)


def serialize(model: onnx.ModelProto) -> bytes:
    """As a file: what stayed at 32 bits is stored in 16 where that loses nothing."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    store_weights_as_fp16(copy)
    onnx.checker.check_model(copy, full_check=True)
    return bytes(copy.SerializeToString(deterministic=True))
