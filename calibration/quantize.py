"""Explicit INT8 quantization (Q/DQ): an FP32 network and the range of each tensor in, INT8 out.

Quantize and dequantize operators go on the inputs of weighted operators: weights INT8 per channel,
activations symmetric INT8 per tensor, as TensorRT reads them. Outputs are not quantized, so what
follows reads them exactly. ONNX Runtime's quantizer does the work. The ranges come from `ranges`:
ONNX Runtime's own calibrators need batches of equal size.
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
from ..training.export import store_weights_as_fp16, strip_names
from .errors import CalibrationError
from .ranges import WEIGHTED, find_weighted

IR_VERSION = 9
"""The IR version of opset 19. Older ONNX Runtimes do not read a later one."""


def read_network(data: bytes, name: str) -> onnx.ModelProto:
    """Read a network for quantization: weights in FP32, and the opset of FP16 Q/DQ operators.

    Raises CalibrationError.
    """
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
        store_weights_as_fp32(model)
        model = version_converter.convert_version(model, QDQ_OPSET)
    except Exception as error:  # the errors of protobuf, checker and converter share no base
        raise CalibrationError(
            f"{name}: not an ONNX network: {' '.join(str(error).split())}"
        ) from error
    model.ir_version = IR_VERSION
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    nameless = [node.op_type for node in weighted if not node.name]
    if nameless:
        raise CalibrationError(f"{name}: a {nameless[0]} operator has no name")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise CalibrationError(f"{name}: is quantized already")
    return model


def quantize(
    model: onnx.ModelProto, ranges: Mapping[str, float], layers: Collection[str]
) -> onnx.ModelProto:
    """Return a copy of `model`, from `read_network`, with the operators `layers` in INT8.

    `layers` are names of weighted operators, whose input tensors must be in `ranges`. Raises
    CalibrationError.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    reads = find_weighted(copy)
    missing = [name for name in layers if reads.get(name) not in ranges]
    if missing:
        raise CalibrationError(
            f"layer {missing[0]}: no range for its input {reads.get(missing[0])}"
        )
    if not layers:  # which means all of them to the quantizer
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
    """Let only `layers` read quantized tensors, in place.

    ONNX Runtime's quantizer passes the rounded tensor to all its readers: also to residual sums, to
    excluded layers and to the network's outputs.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    quantized = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    exact_of = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized:
            exact_of[node.output[0]] = quantized[node.input[0]].input[0]
    # Where a tensor is an output, the quantizer gave the output's name to the rounded one.
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
    """Serialize a network, with the remaining FP32 weights in FP16 where that is lossless, and
    without what only a further quantization would read."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    store_weights_as_fp16(copy)
    strip_names(copy)
    onnx.checker.check_model(copy, full_check=True)
    return bytes(copy.SerializeToString(deterministic=True))
