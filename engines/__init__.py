"""Model bundles and the engines that run their networks on this machine.

In: a bundle, the name of a network, an engine and a precision. Out: an open `Engine`.
"""

from __future__ import annotations

import functools
import logging
import os

from ..kernels import has_gpu
from .base import Engine, EngineError, Report, null_reporter
from .bundles import FUSION, PRECISIONS, Bundle, ModelEntry
from .tensorrt import BuildOptions, convert_model

log = logging.getLogger(__name__)

# From 1.29 on ONNX Runtime sends telemetry to Microsoft, unless this is set before it is imported.
# So nothing may import it before this package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

ENGINES = ("auto", "tensorrt", "onnx", "null")


def open_engine(
    name: str,
    bundle: Bundle,
    network: str,
    num_threads: int = 0,
    precision: str = "auto",
    options: BuildOptions = BuildOptions(),  # noqa: B008 - frozen
    report: Report = null_reporter,
) -> Engine:
    """Open one network of `bundle`; "auto" selects the best engine of this machine.

    `network` is a modality or "fusion". The fusion network is so small that it always runs on ONNX
    Runtime on one thread: waking a second thread, or the GPU, would take longer. The precision
    "auto" is FP16 on TensorRT and FP32 elsewhere. `options` and `report` are for TensorRT, which
    may first build its engine for minutes. Raises EngineError when the network cannot be opened,
    ValueError for an unknown name.
    """
    for value, kind, allowed in ((name, "engine", ENGINES), (precision, "precision", PRECISIONS)):
        if value not in allowed:
            raise ValueError(f"{kind} {value!r} is not one of {', '.join(allowed)}")
    if name == "null":
        from .null import NullEngine

        return NullEngine(bundle.manifest, network)
    if network == FUSION:
        return _open_onnx(bundle, network, 1, "fp32")
    check_precision(bundle, network, precision)
    if name == "tensorrt" or (name == "auto" and has_gpu()):
        from .tensorrt.engine import open_tensorrt

        gpu_precision = "fp16" if precision == "auto" else precision
        try:
            return open_tensorrt(bundle, network, gpu_precision, options, report)
        except EngineError as error:
            if name == "tensorrt":
                raise
            _warn_of_fallback(str(error))
    return _open_onnx(bundle, network, num_threads, "fp32" if precision == "auto" else precision)


def _open_onnx(bundle: Bundle, network: str, num_threads: int, precision: str) -> Engine:
    from .onnx_runtime import OnnxEngine

    path, model = bundle.model_path(network, precision), bundle.read_model(network, precision)
    if precision == "fp16":
        model = convert_model(model, path, precision)
    return OnnxEngine(path, num_threads, precision, model)


def check_precision(bundle: Bundle, network: str, precision: str) -> None:
    """Raise EngineError for a precision that the bundle lacks."""
    entry = bundle.manifest.networks[network]
    if precision == "int8" and isinstance(entry, ModelEntry) and "int8" not in entry.variants:
        raise EngineError(
            f"{bundle.path}: no {network} network of precision int8, there are fp32 and fp16"
        )


@functools.cache
def _warn_of_fallback(reason: str) -> None:
    """Log each reason once, though every network has it."""
    log.warning("running on ONNX Runtime instead of TensorRT: %s", reason)
